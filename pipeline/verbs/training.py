"""`pairloom train`: a recipe on finished shards. `pairloom recipe`: which there are, and what each needs."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pairloom.typed import build
from pipeline.advice import advised, commands_for, made_by, settings_for
from pipeline.logs import KINDS
from pipeline.metrics import of_training, write
from pipeline.params import read_params
from pipeline.progress import TrainingProgress
from pipeline.verbs.common import Outcome, add_params_options, add_verb, local, shards_place


def add(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "train",
        train,
        "train a recipe on shards",
        "pairloom train --recipe uniter --shards data/shards --steps 300",
    )
    verb.add_argument("--recipe", required=True, help="a name (`pairloom recipe list`), or a .yaml file of your own")
    verb.add_argument(
        "--shards",
        type=shards_place,
        default=Path("data/shards"),
        help="folder of shards, or an address such as s3://bucket/shards (default: data/shards)",
    )
    verb.add_argument("--out", type=local, help="folder for the checkpoint (default: models/RECIPE)")
    verb.add_argument("--metrics", type=local, default=Path("metrics"), help="folder for metrics (default: metrics)")
    verb.add_argument("--plots", type=local, default=Path("plots"), help="folder for the loss curve (default: plots)")
    add_params_options(verb)
    verb.add_argument("--size", help="tiny (two cores), base (as published) …; overrides train.RECIPE.size")
    verb.add_argument("--variant", help="no-questions: lxmert, vinvl without any; overrides train.RECIPE.variant")
    verb.add_argument(
        "--init", help="weights to start from: a folder that training wrote, or a published file or folder"
    )
    verb.add_argument(
        "--init-partial",
        action="store_true",
        default=None,
        help="let published weights give a part of the model only some of its tensors",
    )
    verb.add_argument("--steps", type=int, help="overrides train.RECIPE.steps")
    verb.add_argument("--seed", type=int, help="overrides train.RECIPE.seed")
    verb.add_argument(
        "--resume",
        help="auto (the newest state beside OUT), never, or a state's file; overrides train.RECIPE.resume",
    )
    verb.add_argument(
        "--log", action="append", choices=list(KINDS), help="a program that gets losses and speed (may be repeated)"
    )
    verb.add_argument(
        "--profile", action="store_true", help="say where the time of 20 steps goes; a trace is in OUT.log"
    )
    verb.add_argument("--quiet", action="store_true", help="print progress as plain lines")
    add_recipe(verbs)


def add_recipe(verbs: Any) -> None:
    group = verbs.add_parser("recipe", help="the published systems as recipes", description="the recipes of trainer/")
    group = group.add_subparsers(required=True, metavar="COMMAND")
    add_verb(group, "list", list_recipes, "name every recipe with its paper", "pairloom recipe list")
    show = add_verb(group, "show", show_recipe, "print a recipe with its comments", "pairloom recipe show uniter")
    show.add_argument("name")
    check = add_verb(
        group,
        "check",
        check_recipe,
        "say which columns of the shards a recipe needs and which are missing",
        "pairloom recipe check uniter data/shards",
    )
    check.add_argument("name")
    check.add_argument("shards", type=shards_place, help="folder of shards, or an address")
    check.add_argument("--size", default="base", help="default: base")
    check.add_argument("--variant", help="one that the recipe lists, such as no-questions")
    probe = add_verb(
        group,
        "probe",
        probe_text,
        "test what the text encoders of checkpoints know, without an image",
        "pairloom recipe probe models/uniter models/lexical",
    )
    probe.add_argument("checkpoints", nargs="+", type=local, help="folders that training wrote, to be compared")
    probe.add_argument(
        "--choices", type=local, help="goals and two solutions in PIQA's format (default: a few of ours)"
    )
    probe.add_argument("--labels", type=local, help="PIQA's file of labels; without it each line of --choices has one")
    probe.add_argument(
        "--nouns",
        type=local,
        help="text, start, stop and adjective, or the study's df_info.csv (default: a few of ours)",
    )
    probe.add_argument("--seed", type=int, default=0)
    table = add_verb(
        group,
        "table",
        table_of_recipes,
        "train recipes at size tiny and compare what each learned with chance and the margin it promises",
        "pairloom recipe table uniter clip --shards data/recipes/shards",
    )
    table.add_argument("names", nargs="*", help="default: every recipe")
    table.add_argument("--shards", type=shards_place, required=True, help="folder of shards, or an address")
    table.add_argument("--out", type=local, default=Path("data/recipes/models"), help="default: data/recipes/models")
    table.add_argument(
        "--write",
        type=local,
        help="docs/lab/systems.md, or another file with a place for the table; other recipes' lines there stay",
    )
    table.add_argument("--variant", help="of each recipe. Without names: of those that list it")
    table.add_argument("--init", help="weights to start each from, as of `pairloom train`")
    table.add_argument("--steps", type=int, help="instead of each recipe's own")
    table.add_argument("--seed", type=int, default=0)
    table.add_argument("--quiet", action="store_true", help="print progress as plain lines")


def train(arguments: argparse.Namespace) -> Outcome:
    """Train one recipe. Its settings are section train.<recipe> of params.yaml."""
    from devices import ranks
    from pipeline.meter import Meter, Watches
    from pipeline.step_profile import StepProfile
    from systems import recipes
    from trainer import loop

    recipes.path_of(arguments.recipe)  # a wrong name stops here
    name = recipes.name_of(arguments.recipe)
    params = read_params(arguments.params, arguments.settings)
    section = params.section("train").get(name) or {}
    options = ("size", "variant", "init", "init_partial", "steps", "seed", "resume", "log")
    given = {name: getattr(arguments, name) for name in options if getattr(arguments, name) is not None}
    config = build(loop.Config, section | given, f"{params.file}, section train.{name}")
    out = arguments.out or Path("models") / name
    recipe = recipes.load(arguments.recipe, config.size, config.overrides(), config.variant)
    world = ranks.launched()
    first, notes = world.rank == 0, out.with_name(f"{out.name}.log")  # the first alone tells and writes
    with TrainingProgress(name, arguments.quiet) as progress, advised(), ExitStack() as stack:
        watches = Watches()
        profile = StepProfile(notes / "trace.json") if arguments.profile and first else None
        if config.log and first:
            watches.append(stack.enter_context(Meter(config, name, notes, world.size)))
        if profile is not None:
            watches.append(stack.enter_context(profile))
        result = loop.train(recipe, arguments.shards, config, progress if first else None, out, watches)
    if not first:
        return Outcome()
    if profile is not None:
        print(profile.table(), file=sys.stderr)
    metrics = arguments.metrics / f"train-{name}.json"
    loop.save(result, out, arguments.plots / f"train-{name}.csv")
    write(arguments.metrics, metrics.stem, of_training(result.metrics), result.metrics)
    return Outcome({"checkpoint": str(out), **result.metrics}, f"checkpoint: {out}\nmetrics: {metrics}")


def list_recipes(arguments: argparse.Namespace) -> Outcome:
    """Every recipe: its name, paper and objectives."""
    from systems import recipes

    facts = {name: recipes.in_brief(name) for name in recipes.names()}
    lines = [f"{name:12} {', '.join(one['objectives'])}\n{'':12} {one['paper']}" for name, one in facts.items()]
    return Outcome({"recipes": facts}, "\n".join(lines))


def show_recipe(arguments: argparse.Namespace) -> Outcome:
    """The recipe's file as it is: its comments say what was chosen and why."""
    from systems import recipes

    return Outcome({"recipe": recipes.load(arguments.name).source}, recipes.path_of(arguments.name).read_text("utf-8"))


def check_recipe(arguments: argparse.Namespace) -> Outcome:
    """Which columns it needs, which of them the shards lack, and what would make these. Exits 1 if any is missing."""
    from pairloom.loader.needs import lacking
    from systems import recipes

    needed = recipes.load(arguments.name, arguments.size, variant=arguments.variant).columns()
    missing = {column: made_by(column) for column in lacking(arguments.shards, needed)}
    commands = commands_for(missing, arguments.shards)
    lines = [f"needs    {', '.join(needed)}", f"missing  {', '.join(missing) or 'nothing'}"]
    settings = settings_for(missing)
    lines += [f"set      {', '.join(settings)} in params.yaml"] if settings else []
    lines += [f"to make  {' && '.join(commands)}"] if missing else []
    facts = {"needs": needed, "missing": missing, "settings": settings, "commands": commands}
    return Outcome(facts, "\n".join(lines), exit_code=1 if missing else 0)


def table_of_recipes(arguments: argparse.Namespace) -> Outcome:
    """Exits 1 if a loss did not fall or a promised margin was not reached."""
    from systems import recipes, table
    from trainer import loop

    found: list[table.Line] = []
    variant = arguments.variant
    names = [name for name in recipes.names() if variant is None or variant in recipes.variants(name)]
    for name in arguments.names or names:
        config = loop.Config(
            size="tiny", variant=variant, init=arguments.init, steps=arguments.steps, seed=arguments.seed
        )
        recipe = recipes.load(name, config.size, config.overrides(), variant)
        with TrainingProgress(recipe.name, arguments.quiet) as progress, advised():
            result = loop.train(recipe, arguments.shards, config, progress)
        loop.save(result, arguments.out / recipe.name, None)
        found += table.lines(result.metrics, result.learner.recipe.expects, variant)
        if arguments.write:  # each at once, so that an interrupted run keeps what it has
            document = table.put_into(arguments.write.read_text("utf-8"), found, str(arguments.write))
            arguments.write.write_text(document, encoding="utf-8")
    facts = {"rows": [vars(line) | {"holds": line.holds} for line in found]}
    return Outcome(facts, table.table(found), exit_code=0 if all(line.holds for line in found) else 1)


def probe_text(arguments: argparse.Namespace) -> Outcome:
    """The probes of the study of lexical grounding; with our own few lines they show that it works, and no more."""
    from systems import checkpoints, probes

    choices = probes.read(arguments.choices or probes.CHOICES, probes.Choice, arguments.labels)
    nouns = probes.read_nouns(arguments.nouns or probes.NOUNS)
    found: dict[str, Any] = {}
    for folder in arguments.checkpoints:
        learner, tokenizer = checkpoints.load(folder)
        found[str(folder)] = {
            "choices": probes.choose(learner, tokenizer, choices, arguments.seed),
            "adjectives": probes.adjectives(learner, tokenizer, nouns, arguments.seed),
        }
    lines = [
        f"{folder}: {probe} {', '.join(f'{name} {value:.3f}' for name, value in figures.items() if name != 'by_noun')}"
        for folder, both in found.items()
        for probe, figures in both.items()
    ]
    return Outcome({"probes": found}, "\n".join(lines))
