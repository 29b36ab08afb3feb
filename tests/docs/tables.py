"""What is not executed here as it is typed, each with its reason. New commands need no entry, unless they take long.

Patterns are regular expressions for a whole command.
"""

KINDS = ("page", "pdf", "table", "formula", "chart", "molecule", "geometry", "scene", "prose")


def _parts(*names: str, but: str = "") -> list[str]:
    """Overrides of a build: two samples of each of these parts."""
    return [f"corpus.parts.{name}.{size}=2" for name in names if name != but for size in ("samples", "held_out")]


# Appended to what the documentation says, by module: everything of the command is used, on little data. Later words win.
_PAGES = ["corpus.pages=48", "corpus.held_out_pages=8", "corpus.held_out_random_pages=8", "workers=1"]
_STEPS = [
    "stage.steps=2", "stage.checkpoint_every=2", "stage.evaluate_every=2", "stage.evaluation_pages=4",
    "optim.warmup_steps=1", "logger.console_every=1",
]  # fmt: skip
_SHORT_STAGES = ",".join([*_STEPS, "data.global_batch=4", "data.micro_batch=4", "stage.curriculum.levels=[]"])
SHRINK = {
    "data_pipeline.build": _PAGES,
    "data_pipeline.simulate": ["steps=2"],
    "data_pipeline.view": ["--pages", "1"],
    "train": _STEPS,
    "train.recipe": [
        "processes=1", f"build.overrides=[{','.join(_PAGES)}]", f"common=[{_SHORT_STAGES}]",
        "evaluate.overrides=[pages=2]",
    ],
    "train.evaluate": ["pages=2", "max_new_tokens=8"],
    "train.generate": ["max_new_tokens=8"],
    "train.surgery": ["pages=4"],
    "train.quantize": ["pages=4"],
    "benchmarks.step": ["--model", "tiny", "--steps", "2"],
    "benchmarks.generate": ["--model", "tiny", "--batch", "1", "--tokens", "8", "--rounds", "2"],
    "benchmarks.render": ["--pages", "2", "--samples", "2"],
    "benchmarks.packing": ["--model", "tiny", "--samples", "4", "--steps", "2"],
    "benchmarks.tune": ["--models", "tiny", "--tokens", "16", "--accumulate", "1", "--rounds", "2"],
    "benchmarks.tuners": ["--tunes", "lora", "--base-steps", "2", "--steps", "12", "--rounds", "1"],
    "benchmarks.quantize": ["--checkpoint", "runs/smoke", "--steps", "2", "--bits", "4", "--pages", "4"],
    "benchmarks.distill": ["--pages", "64", "--teacher-steps", "2", "--student-steps", "2", "--seeds", "1"],
}  # fmt: skip

# Further words for single commands, by pattern; they stand behind those of SHRINK.
SHRINK_ONE = {
    r"make smoke": ["steps=[build,encoder,pretrain,report]"],  # all steps: tests/train/recipe
    r".*recipe=smoke name=mine": ["steps=[build,encoder]"],
    r".* profile.steps=\[10,12\]": ["stage.steps=12", "data.global_batch=8"],
    r".*recipe=full": ["compare.overrides=[pages=2]"],
    r".*recipe=smoke_mix": [f"build.overrides=[workers=1,{','.join(_parts('words', *KINDS, but='pdf'))}]"],
    r".*corpus=mix_small.*": _parts(*KINDS),
    r".*experiment=mix_small.*": ["model=tiny", "model.decoder.max_length=8192", "data.global_batch=1", "stage.evaluation_pages=2"],
}

# Commands whose results pages take for granted.
TAKEN_FOR_GRANTED = [
    f"python -m train stage=encoder run.name={name} deterministic=true logger.checksums_every=1" for name in ("a", "b")
]

# Words that only a whole run would make true.
REPLACED = {"step-00000040": "step-00000002"}  # the checkpoint at the end of a run that SHRINK makes short

# Takes some five seconds of a processor or more, even on little: `make test-slow` runs it; `make test` composes and checks its
# configuration. The reason, or the fast test that does the like.
SLOW = {
    r"python -m train.plan .* --search": "looks at hundreds of layouts of the paper's model: 20 seconds",
    r"python -m train.recipe recipe=smoke_mix": "builds every kind once more; corpus=mix_small is built in the fast test",
    r"python -m train experiment=mix_small .*": "rows of 8192 bytes",
    r".* engine.zero=3": "tests/parallel/test_layouts.py trains it in many layouts",
    r"torchrun .* -m train.generate .* tensor=2": "tests/train/generate/test_tensor_reading.py reads with tensor ranks",
    r"python -m train .* profile.steps=.*": "tests/train/observe/test_run_watch.py profiles a run",
    r".* format=omnidocbench .*": "tests/train/evaluate/test_command.py measures it",
    r"python -m train.recipe recipe=full": "eleven steps, which tests/train/recipe runs as recipe=smoke has them",
    r"python -m benchmarks\.(?!stream).*": "measures; `--help` of it is asked in the fast test",
}

# Executed by other means: the file that does it, and a line of it.
ELSEWHERE = {
    r"make test": (".ci/run", "exec make test"),
    r"make debian-packages": ("Makefile", "test: debian-packages lint"),
    r"(\w+=\$\()?sbatch .*": ("tests/slurm/test_jobs.py", "def test_slurm_and_our_commands_take_what_the_page_about_clusters_says"),
    r"squeue": ("tests/slurm/sandbox", "slurmctld"),  # Slurm's own
    r'eval "\$\(tests/slurm/sandbox up\)"': ("tests/slurm/conftest.py", 'cluster.sandbox("up")'),
    r"tests/slurm/sandbox down": ("tests/slurm/conftest.py", 'cluster.sandbox("down")'),
    r"tests/slurm/sandbox crash n2": ("tests/slurm/test_jobs.py", 'cluster.sandbox("crash", '),
    r"python -m benchmarks.stream": ("tests/benchmarks/test_stream.py", "def test_loaders_give_as_many_samples_as_they_are_asked_for"),
    r"pip install --no-index .* microfiche": ("tests/test_wheelhouse.py", "def test_every_package_that_is_needed_has_a_pin"),
}
