"""The configuration of the model after surgery, and what sizes it cannot be given. Loads no torch.

The operations come in this order: prune, upcycle, grow, factorize.
"""

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from conf.errors import ConfigError
from train.config import DecoderConfig, ModelConfig
from train.head_width import decoder_head_width, encoder_head_width, encoder_width

if TYPE_CHECKING:
    from train.surgery.config import FactorizeConfig, SizesConfig, SurgeryConfig, UpcycleConfig

ENCODER = ("window_depth", "window_heads", "window_mlp", "global_depth", "global_heads", "global_mlp")
OF_EXPERTS = ("experts", "expert_ffn", "shared_experts", "experts_per_token")


def planned(model: ModelConfig, config: "SurgeryConfig") -> ModelConfig:
    """`model` after all operations; but which layers are kept, and so `dense_layers` and `global_layers` after pruning layers,
    is known only when they are weighed. Raises ConfigError.
    """
    model = pruned(model, config.prune)
    if config.upcycle.experts is not None:
        model = upcycled(model, config.upcycle)
    model = grown(model, config.grow)
    return factored(model, config.factorize)


def pruned(model: ModelConfig, sizes: "SizesConfig") -> ModelConfig:
    """`model` with smaller sizes. Of layers the last ones are gone. Raises ConfigError for one that is larger than it was."""
    asked = _asked(model, sizes, "prune")
    for name, size in asked.items():
        there, least = size_of(model, name), 0 if name == "shared_experts" else 1
        if not least <= size <= there:
            more = f", or grow.{name}={size}" if size > there else ""
            raise ConfigError(
                f"prune.{name}={size}: the model has {there}. Choose prune.{name}={least} to {there}{more}."
            )
    after = _resized(model, asked)
    decoder, encoder = after.decoder, after.encoder
    if decoder.experts_per_token > decoder.experts:
        raise ConfigError(
            f"prune.experts={decoder.experts}: a token chooses {decoder.experts_per_token} experts. Choose prune.experts="
            f"{decoder.experts_per_token} or more, or add prune.experts_per_token={decoder.experts}."
        )
    return replace(
        after,
        decoder=replace(decoder, dense_layers=min(decoder.dense_layers, decoder.layers)),
        encoder=replace(
            encoder,
            global_layers=[number for number in encoder.global_layers if number < encoder.window_depth],
        ),
    )


def upcycled(model: ModelConfig, upcycle: "UpcycleConfig") -> ModelConfig:
    """`model` with experts in the place of dense feed-forwards. Raises ConfigError."""
    decoder, experts, chosen = model.decoder, upcycle.experts or 0, upcycle.experts_per_token
    if decoder.dense_layers < decoder.layers:
        raise ConfigError(
            f"upcycle.experts={experts}: {decoder.layers - decoder.dense_layers} of {decoder.layers} layers have experts "
            f"already, and all layers have equally many. To have more of them: grow.experts={2 * decoder.experts}."
        )
    if not 0 <= upcycle.dense_layers < decoder.layers:
        raise ConfigError(f"upcycle.dense_layers={upcycle.dense_layers}: choose 0 to {decoder.layers - 1}.")
    features = upcycle.expert_ffn or decoder.ffn
    if decoder.ffn % features:
        raise ConfigError(
            f"upcycle.expert_ffn={features}: does not divide the dense layers' {decoder.ffn} features. Choose "
            f"upcycle.expert_ffn={decoder.ffn // max(1, round(decoder.ffn / features))} or another divisor."
        )
    parts = decoder.ffn // features
    for name, count in (("experts", experts), ("experts_per_token", chosen)):
        if count < 1 or count % parts:
            raise ConfigError(
                f"upcycle.{name}={count}: a feed-forward is cut into {parts} parts of {features} features, and tokens choose whole "
                f"ones. Choose upcycle.{name}={max(parts, round(count / parts) * parts)}."
            )
    if chosen > experts:
        raise ConfigError(
            f"upcycle.experts_per_token={chosen}: there would be upcycle.experts={experts}. Choose {experts} or less."
        )
    return replace(
        model,
        decoder=replace(
            decoder, dense_layers=upcycle.dense_layers, experts=experts, experts_per_token=chosen, expert_ffn=features,
            shared_experts=0,
        ),
    )  # fmt: skip


def grown(model: ModelConfig, sizes: "SizesConfig") -> ModelConfig:
    """`model` with larger sizes. New layers come last, in number. Raises ConfigError for one that is smaller than it was."""
    asked = _asked(model, sizes, "grow")
    for name, size in asked.items():
        there = size_of(model, name)
        if size < there:
            raise ConfigError(
                f"grow.{name}={size}: the model has {there}. Choose grow.{name}={there} or more, or prune.{name}={size}."
            )
    experts, times = (
        model.decoder.experts,
        asked.get("experts", model.decoder.experts) // model.decoder.experts,
    )
    if asked.get("experts", experts) % experts:
        raise ConfigError(
            f"grow.experts={asked['experts']}: every expert gets equally many copies, or the router would weigh them otherwise. "
            f"Choose grow.experts={(times + 1) * experts}."
        )
    if times > 1:
        asked.setdefault("experts_per_token", model.decoder.experts_per_token * times)
    if "shared_experts" in asked and model.decoder.shared_experts == 0 and asked["shared_experts"]:
        raise ConfigError("grow.shared_experts: the model has none to copy. Leave it out.")
    return _resized(model, asked)


def factored(model: ModelConfig, ranks: "FactorizeConfig") -> ModelConfig:
    """`model` with two matrices of a low rank in the place of one. Raises ConfigError."""
    changes: dict[str, Any] = {}
    for name, rank in vars(ranks).items():
        if rank is None:
            continue
        if getattr(model.decoder, f"{name}_rank"):
            raise ConfigError(f"factorize.{name}={rank}: these matrices are factored already. Leave it out.")
        most = largest_rank(model.decoder, name)
        if not 1 <= rank <= most:
            raise ConfigError(
                f"factorize.{name}={rank}: choose factorize.{name}=1 to {most}; {most} is the full rank of the largest."
            )
        changes[f"{name}_rank"] = rank
    return replace(model, decoder=replace(model.decoder, **changes))


def largest_rank(decoder: DecoderConfig, name: str) -> int:
    """The rank of the largest matrix that factorize.NAME cuts in two."""
    if name == "attention":
        return min(decoder.width, 3 * decoder.heads * decoder_head_width(decoder))
    features = [decoder.ffn] * (decoder.dense_layers > 0)
    features += [decoder.shared_experts * decoder.expert_ffn] * (decoder.dense_layers < decoder.layers)
    return min(decoder.width, 2 * max(features))


def size_of(model: ModelConfig, name: str) -> int:
    """The size that `prune.NAME` and `grow.NAME` change."""
    return getattr(model.encoder if name in ENCODER else model.decoder, name)


def _asked(model: ModelConfig, sizes: "SizesConfig", verb: str) -> dict[str, int]:
    """The sizes that are given. Raises ConfigError for those of parts that the model has not."""
    asked = {
        member.name: getattr(sizes, member.name)
        for member in fields(sizes)
        if getattr(sizes, member.name) is not None
    }
    decoder = model.decoder
    for name in asked:
        if model.encoder.kind != "optical" and name in (*ENCODER, "width"):
            raise ConfigError(
                f"{verb}.{name}: model.encoder.kind={model.encoder.kind} has no such part. Leave it out."
            )
        if name in OF_EXPERTS and decoder.dense_layers == decoder.layers:
            raise ConfigError(
                f"{verb}.{name}: no layer of the model has experts; upcycle.experts=8 makes some. Leave it out."
            )
        if name == "ffn" and decoder.dense_layers == 0:
            raise ConfigError(
                f"{verb}.ffn: no layer of the model is dense; experts have {verb}.expert_ffn. Leave it out."
            )
    if (decoder.attention_rank or decoder.ffn_rank) and asked:
        raise ConfigError(
            f"{verb}.{next(iter(asked))}: the model has factored matrices; change its sizes first, and factorize then."
        )
    return asked


def _resized(model: ModelConfig, asked: dict[str, int]) -> ModelConfig:
    """`model` with other sizes; a head keeps its width, and the norm its strength."""
    if not asked:
        return model
    of_encoder: dict[str, Any] = {name: size for name, size in asked.items() if name in ENCODER}
    of_decoder: dict[str, Any] = {name: size for name, size in asked.items() if name not in ENCODER}
    encoder, decoder = replace(model.encoder, **of_encoder), replace(model.decoder, **of_decoder)
    for branch in ("window", "global"):
        width = encoder_head_width(model.encoder, branch)
        shared_out = getattr(encoder, f"{branch}_heads") * width == encoder_width(encoder, branch)
        own: dict[str, Any] = {f"{branch}_head_width": 0 if shared_out else width}
        encoder = replace(encoder, **own)
    width = decoder_head_width(model.decoder)
    decoder = replace(decoder, head_width=0 if decoder.heads * width == decoder.width else width)
    if (
        decoder.width != model.decoder.width
    ):  # what is added to a sum of squares over the features stays the same
        decoder = replace(decoder, norm_eps=model.decoder.norm_eps * model.decoder.width / decoder.width)
    return replace(model, encoder=encoder, decoder=decoder)
