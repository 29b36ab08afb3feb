"""The settings of a training stage, as typed dataclasses: the schema behind `conf/`.

Every value that a YAML file or an override may set is a field here, so that an unknown name or a wrong type
is refused while the configuration is composed. Values that are well typed but impossible are refused by
`train.validate`. Nothing here imports torch.
"""

from dataclasses import dataclass, field

from data_pipeline.data_config import DataConfig


@dataclass
class EncoderConfig:
    """DeepEncoder: a windowed branch (SAM-like), a 16x compressor, and a global branch (CLIP-like).

    All widths are features; `window_mlp` and `global_mlp` are hidden features of the feed-forward layers. The
    width of the global branch is the compressor's last width.

    kind: "optical", or in its place one of the baselines that shorten the page's own text to as many vectors:
    "mean_pool", "convolution", "truncation" (train/model/text_encoder.py), for which the sizes of DeepEncoder but
    `patch` mean nothing.
    """

    kind: str = "optical"  # or a baseline over the page's text: "mean_pool" | "convolution" | "truncation"
    image_size: int = 128  # pixels a side of the square view
    patch: int = 8  # pixels a side of one patch; a vision token covers 4 x 4 patches
    window_width: int = 64
    window_depth: int = 2
    window_heads: int = 4
    window_head_width: int = 0  # features of a head; 0: window_width / window_heads. Heads that were pruned or added leave it as it was
    window_size: int = 4  # patches a side of one attention window
    global_layers: list[int] = field(
        default_factory=lambda: [1]
    )  # layers of the windowed branch that attend to the whole page
    window_mlp: int = 256
    neck_width: int = 64
    compressor_widths: list[int] = field(
        default_factory=lambda: [128, 128]
    )  # after each of the two stride-2 convolutions
    global_depth: int = 2
    global_heads: int = 4
    global_head_width: int = 0  # features of a head; 0: the width / global_heads
    global_mlp: int = 512


@dataclass
class DecoderConfig:
    """The mixture-of-experts language model that reads the vision tokens."""

    layers: int = 3
    width: int = 128
    heads: int = 4
    head_width: int = 0  # features of a head; 0: width / heads. Heads that were pruned or added leave it as it was
    ffn: int = 384  # hidden features of the dense feed-forward layers
    dense_layers: int = 1  # the first layers, which have no experts
    experts: int = 8  # routed experts of each later layer
    experts_per_token: int = 2
    expert_ffn: int = 96  # hidden features of one expert
    shared_experts: int = 1  # experts that see every token, of `expert_ffn` features each
    vocab_size: int = 512
    max_length: int = 512  # positions, vision tokens included
    rope_theta: float = 10000.0
    norm_eps: float = 1e-6
    aux_loss: float = 0.001  # weight of the per-sequence load-balancing loss
    tied_embeddings: bool = False  # one matrix embeds tokens and gives their logits
    attention_rank: int = 0  # attention's matrices are products of two of this rank; 0: whole (train.surgery factorize.attention)
    ffn_rank: int = 0  # the same of dense layers and shared experts (factorize.ffn)


@dataclass
class ModelConfig:
    """One architecture; the files of `conf/model/` differ in numbers only."""

    name: str = "tiny"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    glyph_classes: int = 256  # classes of the glyph map (data_pipeline.record.GLYPH_CLASSES)
    glyph_heads: bool = True  # heads that predict the glyph map; needed where the objective weighs it


@dataclass
class ParallelConfig:
    """How one replica of the model is split over processes; the data-parallel size is what remains of the
    world.
    """

    tensor: int = 1  # ways a matrix is split
    pipeline: int = 1  # stages that the model is cut into, one after the other
    expert: int = 1  # ways the experts of a layer are shared out, over tensor and data ranks
    sequence: bool = True  # tensor ranks also share out the positions wherever matrices are whole; experts need it
    virtual: int = 1  # pieces of each pipeline stage, worked on in turn; above 1: the interleaved schedule
    encoder_stages: int = 0  # pipeline stages of the encoder's own: 0 none (it shares the first one), 1, or 2 as in the paper
    decoder_layers: list[int] = field(
        default_factory=list
    )  # layers of each stage that holds some; [] = as even as can be
    encoder: str = "auto"  # over tensor ranks: "split" | "replicate" | "auto" (split where the heads divide)


@dataclass
class EngineConfig:
    """How a step is computed: ZeRO stage, number format, clipping, and what is traded for memory."""

    zero: int = 1  # what is split over data ranks: 1 optimizer state, 2 and gradients, 3 and weights
    precision: str = "fp32"  # "fp32" | "bf16" (gradients are accumulated in fp32 either way)
    clip: float = 1.0  # largest global gradient norm; 0 turns clipping off
    offload: bool = False  # optimizer state and its update on the host
    recompute: str = "none"  # activations computed again in backward: "none" | "selective" (feed-forwards) | "full"


@dataclass
class OptimConfig:
    """The optimizer and the learning-rate schedule (linear warm-up, then `schedule`)."""

    name: str = "adamw"  # "adamw" | "muon" | "lion" | "adafactor" | "adamw_8bit" | "lion_8bit" | "schedule_free" | "galore" | "lomo"
    lr: float = 4e-3
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    weight_decay: float = 0.05
    eps: float = 1e-8
    warmup_steps: int = 50
    schedule: str = "cosine"  # "cosine" | "step" | "constant"
    final_fraction: float = 0.05  # of `lr`, at the end of the cosine
    step_milestones: list[float] = field(
        default_factory=lambda: [0.6, 0.9]
    )  # fractions of the run; schedule=step
    step_factor: float = 0.316  # `lr` is multiplied by this at each milestone; schedule=step
    momentum: float = 0.95  # of hidden matrices; muon
    newton_schulz_steps: int = 5  # of the iteration that makes a matrix orthogonal; muon
    beta2_decay: float = -0.8  # power of the step's number that a gradient weighs in second moments; adafactor
    update_clip: float = 1.0  # largest size of an update, root of mean squares; adafactor
    rank: int = 128  # directions of each hidden matrix's gradient; galore
    refresh_every: int = 200  # steps between searches for new directions; galore
    scale: float = 0.25  # of an update that goes back from those directions; galore


@dataclass
class InitConfig:
    """First weights of matrices, kernels and embeddings. Norms begin at one, biases and relative positions at zero."""

    kind: str = "scaled"  # "scaled" (sqrt(0.5 / inputs)) | "normal" (`std`) | "kaiming" | "xavier" (both normal, of the layers alone)
    std: float = 0.02  # kind=normal
    residual: str = "zero"  # last matrix of each block: "zero" | "scaled" (over sqrt(2 x layers)) | "depth" (over sqrt(2 x the layer's number)) | "plain"


LOW_RANK = ("lora", "dora")  # kinds of tuning
ADDING = ("adapter", "prefix", "prompt", "p_tuning", "p_tuning_v2")


@dataclass
class TuneConfig:
    """What fine-tuning trains in the place of the whole model. The files of `conf/tune/` differ in numbers only."""

    kind: str = "none"  # "none" (stage.frozen decides) | "full" | "lora" | "dora" | "adapter" | "prefix" | "prompt" | "p_tuning" | "p_tuning_v2" | "selective"
    targets: list[str] = field(
        default_factory=lambda: ["attention", "dense", "shared_experts", "experts"]
    )  # layers with low-rank factors, or adapters behind them: groups or patterns (train/targets.py)
    rank: int = 16  # of low-rank factors
    ranks: dict[str, int] = field(default_factory=dict)  # a group or pattern of targets: its own rank
    alpha: float = 32.0  # what low-rank factors add is scaled by alpha / rank
    rank_stabilised: bool = False  # by alpha / sqrt(rank) instead (arXiv 2312.03732)
    dropout: float = 0.0  # of what low-rank factors read; dense layers alone
    base: str = "as_is"  # how the weights that stay are stored: "as_is" | "nf4" (QLoRA)
    width: int = 64  # hidden features of an adapter, of the network that makes a prompt or a prefix
    tokens: int = 16  # learned positions: of a prompt, of a prefix in every layer
    train: list[str] = field(
        default_factory=list
    )  # patterns of the model's own parameters that train as well, such as [decoder.*norm*]

    @property
    def has_factors(self) -> bool:
        """Whether low-rank factors are put around weights; they can be worked into them."""
        return self.kind in LOW_RANK

    @property
    def has_modules(self) -> bool:
        """Whether modules are put beside the weights, which are part of none and stay beside them."""
        return self.kind in ADDING

    @property
    def reserved(self) -> int:
        """Positions of a row that each sample gives to a prompt."""
        return self.tokens if self.kind in ("prompt", "p_tuning") else 0


@dataclass
class QuantizeConfig:
    """Quantization-aware training: weights, and what they are multiplied with, are rounded as they will be stored."""

    bits: int = 0  # of a weight: 2, 3, 4 or 8; 0 for none
    numbers: str = "int"  # "int" | "fp8" (8 bits as e4m3)
    group: int = 32  # inputs that share a scale; 0: one scale for each output
    symmetric: bool = True
    activation_bits: int = 0  # of what is multiplied with a weight, a scale for each position: 8; 0 for none
    scales: str = "dynamic"  # "dynamic" (from the weights, at each step) | "learned"
    targets: list[str] = field(
        default_factory=lambda: ["attention", "dense", "shared_experts", "experts"]
    )


@dataclass
class PruneConfig:
    """Weights that are held at zero: a mask, made from the weights that a stage starts with."""

    kind: str = "none"  # "none" | "magnitude" | "wanda" (arXiv 2306.11695)
    sparsity: float = 0.5  # share of zeros of each output's weights
    pattern: str = "free"  # "free" | "2:4" (two of four neighbours)
    batches: int = 8  # micro-batches that wanda looks at
    targets: list[str] = field(
        default_factory=lambda: ["attention", "dense", "shared_experts", "experts"]
    )


@dataclass
class DistillConfig:
    """A teacher whose predictions and features a student is drawn to, beside the text's own tokens."""

    teacher: str | None = None  # run or checkpoint of the teacher; null for none
    teacher_modes: list[str] = field(default_factory=list)  # resolutions the teacher reads the same pages at; [] = the student's
    cache: str | None = None  # folder of shards with a teacher's predictions, in the place of a teacher that runs along
    divergence: str = "forward_kl"  # "forward_kl" | "reverse_kl" | "jsd"
    mixture: float = 0.5  # jsd: share of the teacher in the distribution that both are compared with
    temperature: float = 1.0  # of both distributions; the divergence is multiplied by its square
    top_k: int = 0  # predictions of the teacher that count, the rest as one; 0 for all
    weight: float = 0.0  # of the divergence
    next_token: float = 1.0  # of the text's own tokens
    hidden: float = 0.0  # of the distance between the decoders' last hidden states
    features: float = 0.0  # of the distance between the encoders' vision tokens
    distance: str = "mse"  # of hidden states and vision tokens: "mse" | "cosine"


@dataclass
class CurriculumConfig:
    """Sources join level by level, when the newest ones are read well enough."""

    levels: list[list[str]] = field(
        default_factory=list
    )  # source names that each level adds; [] = all sources from the start
    advance_at: float = 0.85  # held-out next-token accuracy on the newest source
    max_steps: int = 1000  # steps in one level, after which the next begins regardless


@dataclass
class ObjectiveConfig:
    """Weights of the losses that are added to next-token cross-entropy (weight 1)."""

    patch_glyphs: float = 0.0  # glyph map, predicted from each patch of the windowed branch
    token_glyphs: float = 0.0  # glyph map, predicted from each vision token
    input_noise: float = 0.0  # share of the text tokens that the decoder is shown wrongly while it trains


@dataclass
class WeightDecompositionConfig:
    """How far training moves weights, by length and by direction of their rows (train/weight_decomposition)."""

    every: int = 0  # steps between looks; 0: none
    targets: list[str] = field(
        default_factory=lambda: ["attention"]
    )  # weights that are looked at: groups or patterns (train/targets.py)


@dataclass
class StageConfig:
    """What makes a stage: where it starts, what it trains, on which losses, for how long."""

    name: str = "pretrain"
    steps: int = 1000
    start_from: str | None = None  # checkpoint folder whose weights are the start
    frozen: list[str] = field(default_factory=list)  # prefixes of module names that stay as they are
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    checkpoint_every: int = 200  # steps
    evaluate_every: int = 200  # steps
    keep_checkpoints: int = 2
    save_in_background: bool = True  # files are written while training goes on
    save_base: bool = True  # false: checkpoints hold what was added alone, and name stage.start_from's for the rest
    evaluation_pages: int = 64  # held-out pages of each source in an evaluation during training
    weight_decomposition: WeightDecompositionConfig = field(default_factory=WeightDecompositionConfig)


@dataclass
class LoggerConfig:
    """Where metrics go besides `metrics.jsonl`."""

    wandb: str = "disabled"  # "offline" | "online" | "disabled"
    project: str = "microfiche"
    console_every: int = 20  # steps


@dataclass
class RunConfig:
    """Where a run lives and on what it runs."""

    name: str = "default"
    directory: str = "runs"  # the run's folder is DIRECTORY/NAME
    resume: bool = True  # continue from the newest valid checkpoint of this run, if there is one
    device: str = "auto"  # "auto" | "cpu" | "cuda"
    timeout: float = 600.0  # seconds without progress after which a run ends with an error, such as a hung peer


@dataclass
class Config:
    """Everything `python -m train` needs to know."""

    run: RunConfig = field(default_factory=RunConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    init: InitConfig = field(default_factory=InitConfig)
    data: DataConfig = field(default_factory=DataConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    stage: StageConfig = field(default_factory=StageConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    seed: int = 0
    resume: str | None = None  # run or checkpoint folder to go on from, in any layout: weights, optimizer, place in the data
    overrides: list[str] = field(
        default_factory=list
    )  # the overrides that made this configuration; filled in when it is composed


@dataclass
class StepConfig:
    """One step of a recipe, as overrides of the command that it stands for."""

    settings: list[str] = field(default_factory=list)  # the recipe's own
    overrides: list[str] = field(default_factory=list)  # yours, applied after them


@dataclass
class RecipeConfig:
    """An ordered chain of steps; a step that is not "build", "merge", "export", "compare", "evaluate" or "report" is a stage
    and has an entry in `stages`.
    """

    name: str = "???"
    directory: str = "runs"  # everything is written to DIRECTORY/NAME
    steps: list[str] = field(default_factory=lambda: ["build", "encoder", "pretrain", "evaluate", "report"])
    build: StepConfig = field(default_factory=StepConfig)  # overrides of python -m data_pipeline.build
    stages: dict[str, StepConfig] = field(default_factory=dict)  # overrides of python -m train
    merge: StepConfig = field(default_factory=StepConfig)  # overrides of python -m train.adapt.export
    export: StepConfig = field(default_factory=StepConfig)  # overrides of python -m train.quantize
    compare: StepConfig = field(default_factory=StepConfig)  # overrides of python -m train.evaluate, of every stage
    evaluate: StepConfig = field(default_factory=StepConfig)  # overrides of python -m train.evaluate
    later_steps: int = 0  # of each stage after the model reads, in recipes that have some
    common: list[str] = field(default_factory=list)  # your overrides of every stage
    processes: str = "1"  # data-parallel processes on this machine, or "auto"
    restart: bool = False  # do again the steps whose settings changed since they ran, and those after them
    overrides: list[str] = field(default_factory=list)  # what was typed; filled in when it is composed
