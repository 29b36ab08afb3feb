"""Reading pages: our decoding engine against transformers' `generate`, greedy, on the same weights and pages.

Each is in a process of its own, as `python -m train.generate` would start ours and a script of a few lines theirs. They take
turns, so that a machine that grows slower or faster meanwhile does so for both; of each pair of texts the ratio is taken.
Seconds are those of the whole call, pages included; "after the first id" is what remains without a call for one id alone.
Processor time is the same comparison by how long the processor worked: for machines that do other things meanwhile.
Memory is the peak of either process above what its imports take. The weights are random, so what is looked up is found more
often than in a real text: those rows show what a pass costs, not what it saves.

    python -m benchmarks.generate                                  # model small, 1 and 8 pages at a time
    OMP_NUM_THREADS=1 python -m benchmarks.generate --model tiny --rounds 15
"""

import argparse
import json
import statistics
import sys
import tempfile
from contextlib import ExitStack
from typing import Any

from benchmarks.readers import OPTIONS
from benchmarks.step import surroundings
from benchmarks.turns import Turn

TARGET = 2.0  # tokens of ours in the time of one of theirs, at least
EXACT = ("greedy", "lookup")  # what must give the ids that theirs gives; small caches round


def main() -> None:
    """Measures, and prints a few lines for a person and one of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small", help="a choice of conf/model")
    parser.add_argument("--batch", default="1,8", help="pages at a time, with commas")
    parser.add_argument("--tokens", type=int, default=256, help="ids of each page's text")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of texts that are measured, 2 or more")
    parser.add_argument("--ways", default=",".join(OPTIONS), help="of decoding, with commas; greedy is always one")
    options = parser.parse_args()
    options.ways = list(dict.fromkeys(["greedy", *options.ways.split(",")]))
    if unknown := set(options.ways) - set(OPTIONS):
        parser.error(f"--ways: {', '.join(sorted(unknown))} is none of {', '.join(OPTIONS)}")
    figures = {batch: measured(options, batch) for batch in map(int, options.batch.split(","))}
    for batch, found in figures.items():
        report(options, batch, found)
    print(json.dumps({**vars(options), "by_batch": figures, **surroundings()}))


def measured(options: argparse.Namespace, batch: int) -> dict[str, Any]:
    """The figures of one batch size, in seconds, bytes and their ratios."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        arguments = ["--weights", f"{folder}/weights", "--model", options.model]
        arguments += ["--batch", str(batch), "--tokens", str(options.tokens)]
        # one after the other: theirs reads the weights that ours has written
        own, other = (
            stack.enter_context(Turn("benchmarks.readers", [name, *arguments])) for name in ("ours", "theirs")
        )
        seconds: dict[str, dict[str, list[float]]] = {"seconds": {}, "processor": {}}
        for number in range(-1, options.rounds):  # the first round is not counted
            turns = [("theirs greedy", other, "greedy"), ("theirs first", other, "first")]
            turns += [(name, own, name) for name in ("first", *options.ways)]
            answers = {name: side.ask(what) for name, side, what in (reversed(turns) if number % 2 else turns)}
            wanted = answers["theirs greedy"]["ids"]
            check(batch, {name: answers[name]["ids"] for name in EXACT if name in answers}, wanted)
            if number == 0:
                memory = own.ask("memory"), other.ask("memory")
            for name, answer in answers.items():
                for kind, given in seconds.items():
                    if number >= 0:
                        given.setdefault(name, []).append(answer[kind])
            agreed = {name: share_of_agreement(answers[name]["ids"], wanted) for name in options.ways}
    return figures_of(seconds, memory, agreed, batch * options.tokens)


def figures_of(
    taken: dict[str, dict[str, list[float]]],
    memory: tuple[float, float],
    agreed: dict[str, float],
    tokens: int,
) -> dict[str, Any]:
    """Tokens a second and ratios to theirs."""
    seconds, processor = taken["seconds"], taken["processor"]

    def rest(whole: str, first: str) -> list[float]:
        return [one - two for one, two in zip(seconds[whole], seconds[first])]

    theirs, theirs_rest = seconds["theirs greedy"], rest("theirs greedy", "theirs first")
    rows = {
        name: {
            "tokens_per_second": tokens / statistics.median(seconds[name]),
            "ratio": quartiles(theirs, seconds[name]),
            "processor_ratio": quartiles(processor["theirs greedy"], processor[name]),
            "ratio_after_first": quartiles(theirs_rest, rest(name, "first")),
            "same_ids": agreed[name],
        }
        for name in agreed
    }
    return {
        "theirs": {
            "tokens_per_second": tokens / statistics.median(theirs),
            "first": statistics.median(seconds["theirs first"]),
        },
        "first": statistics.median(seconds["first"]),
        "rows": rows,
        "memory_mib": [one / 2**20 for one in memory],
        "memory_ratio": memory[0] / memory[1],
    }


def quartiles(theirs: list[float], ours: list[float]) -> list[float]:
    """How many times as fast ours is: first quartile, median, third quartile."""
    return statistics.quantiles([other / own for own, other in zip(ours, theirs)], n=4)


def share_of_agreement(ids: list[list[int]], wanted: list[list[int]]) -> float:
    """Of the ids, at their places."""
    pairs = [pair for row, other in zip(ids, wanted, strict=True) for pair in zip(row, other, strict=True)]
    return sum(one == two for one, two in pairs) / len(pairs)


def check(batch: int, found: dict[str, list[list[int]]], wanted: list[list[int]]) -> None:
    """Exits where the two did not write the same."""
    for name, rows in found.items():
        for row, (ids, theirs) in enumerate(zip(rows, wanted, strict=True)):
            if ids != theirs:
                place = next(place for place, pair in enumerate(zip(ids, theirs)) if pair[0] != pair[1])
                sys.exit(f"batch {batch}, {name}: page {row} differs from theirs at id {place}")


def report(options: argparse.Namespace, batch: int, found: dict[str, Any]) -> None:
    """Prints what was found for one batch size."""
    theirs = found["theirs"]
    print(
        f"model {options.model}, {batch} pages at a time, {options.tokens} ids each, {options.rounds} pairs. "
        f"transformers: {theirs['tokens_per_second']:.0f} tokens/s, first ids after {theirs['first']:.3f} s, ours {found['first']:.3f} s"
    )
    for name, row in found["rows"].items():
        low, middle, high = row["ratio"]
        target = f"; target {TARGET}" if name == "greedy" else ""
        print(
            f"  {name:10} {row['tokens_per_second']:7.0f} tokens/s: {middle:.2f} times as fast (quartiles {low:.2f} to "
            f"{high:.2f}{target}), by processor time {row['processor_ratio'][1]:.2f}, after the first id "
            f"{row['ratio_after_first'][1]:.2f}; {row['same_ids']:.1%} the same ids"
        )
    own, other = found["memory_mib"]
    print(f"  peak memory {own:.0f} MiB, transformers {other:.0f} MiB: {found['memory_ratio']:.2f}")


if __name__ == "__main__":
    main()
