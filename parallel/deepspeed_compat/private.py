"""The private DeepSpeed names that this package relies on."""

_ONE_AND_TWO = "deepspeed.runtime.zero.stage_1_and_2"
_THREE = "deepspeed.runtime.zero.stage3"

# module, then attribute path; classes stand for what their instances must offer
PRIVATE = (
    ("deepspeed.comm.comm", "cdb"),
    ("deepspeed.ops", "__compatible_ops__"),
    ("deepspeed.utils", "logger"),
    ("deepspeed.utils.groups", "_EXPERT_PARALLEL_GROUP"),
    ("deepspeed.utils.groups", "_EXPERT_PARALLEL_GROUP_RANKS"),
    ("deepspeed.utils.groups", "_EXPERT_DATA_PARALLEL_GROUP"),
    ("deepspeed.utils.groups", "_EXPERT_DATA_PARALLEL_GROUP_RANKS"),
    ("deepspeed.utils.groups", "_WORLD_GROUP"),
    ("deepspeed.utils.groups", "mpu"),
    ("deepspeed.moe.layer", "MoE"),
    ("deepspeed.moe.utils", "split_params_into_different_moe_groups_for_optimizer"),
    ("deepspeed.runtime.engine", "DeepSpeedEngine.get_global_grad_norm"),
    ("deepspeed.runtime.engine", "DeepSpeedEngine.destroy"),
    ("deepspeed.runtime.engine", "DeepSpeedEngine._backward_prologue"),
    ("deepspeed.runtime.engine", "DeepSpeedEngine._create_module_forward_pre_hook"),
    ("deepspeed.runtime.engine", "DeepSpeedEngine._create_module_forward_post_hook"),
    ("deepspeed.runtime.bf16_optimizer", "see_memory_usage"),
    ("deepspeed.runtime.bf16_optimizer", "BF16_Optimizer._lazy_init_hp_params_optimizer_state"),
    ("deepspeed.runtime.bf16_optimizer", "BF16_Optimizer.update_lp_params"),
    ("deepspeed.runtime.bf16_optimizer", "BF16_Optimizer.zero_grad"),
    (_ONE_AND_TWO, "INITIAL_MICRO_STEP_ID"),
    (_ONE_AND_TWO, "DeepSpeedZeroOptimizer.clear_backward_seen_flag"),
    (_ONE_AND_TWO, "DeepSpeedZeroOptimizer._lazy_init_hp_params_optimizer_state"),
    (_ONE_AND_TWO, "DeepSpeedZeroOptimizer.update_lp_params"),
    (_ONE_AND_TWO, "DeepSpeedZeroOptimizer.zero_grad"),
    (_ONE_AND_TWO, "DeepSpeedZeroOptimizer.finalize_gradient_accumulation_boundary"),
    (_ONE_AND_TWO, "DeepSpeedZeroOptimizer.reset_cpu_buffers"),
    (_ONE_AND_TWO, "DeepSpeedZeroOptimizer._release_preflattened_grad_buffers"),
    (_THREE, "DeepSpeedZeroOptimizer_Stage3.clear_backward_seen_flag"),
    (_THREE, "DeepSpeedZeroOptimizer_Stage3._overflow_clean_up"),
    (_THREE, "DeepSpeedZeroOptimizer_Stage3._partition_all_parameters"),
    (_THREE, "DeepSpeedZeroOptimizer_Stage3._reassign_or_swap_out_partitioned_parameters"),
    ("deepspeed.runtime.zero.parameter_offload", "FWD_MODULE_STACK"),
    ("deepspeed.runtime.zero.parameter_offload", "ZeROOrderedDict"),
    ("deepspeed.runtime.zero.partition_parameters", "ZeroParamStatus.INFLIGHT"),
)
