"""What a layout holds, does and sends, on one CPU and without starting it: `python -m train.plan`.

config.py    the settings                              world.py      a rank of a world that does not exist
stand_in.py  what tensors without values cannot do     trace.py      a forward and backward, recorded
pieces.py    the model's smallest pieces, recorded     holdings.py   the parameters of each rank, from real modules
memory.py    bytes by ZeRO stage                       traffic.py    bytes sent, and how long that takes
schedule.py  1F1B, simulated                           layout.py     all of it together: the plan of a layout
search.py    the fastest layouts that fit              table.py      what is printed

Shapes, parameters, kept activations, FLOPs and messages are those of the real modules on torch's meta device; DeepSpeed's
buffers are formulas that tests hold against a real engine. Times are estimates.
"""
