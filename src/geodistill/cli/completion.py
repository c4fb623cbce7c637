"""``geodistill completion``: what a shell needs to complete verbs, options and choices, made from the parsers."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from geodistill.cli import VERBS, Verbs
from geodistill.cli.arguments import VerbParser, parse
from geodistill.lazy import load


def completion_parser() -> VerbParser:
    """Return the parser of ``completion``."""
    parser = VerbParser(
        "completion",
        "Print what a shell needs to complete geodistill's verbs, options and choices. For bash, add the line"
        " 'source <(geodistill completion bash)' to ~/.bashrc; for zsh the same with zsh to ~/.zshrc, behind compinit;"
        " for fish, write it to ~/.config/fish/completions/geodistill.fish.",
        "geodistill completion bash",
    )
    parser.add_group("output")("shell", "shell", required=True, choices=SHELLS)
    return parser


def completion(argv: Sequence[str]) -> None:
    """Print the completion of a shell."""
    args = parse(completion_parser(), argv)
    print({"bash": bash, "zsh": zsh, "fish": fish}[args.shell](VERBS))


SHELLS = ("bash", "zsh", "fish")


def verb_parsers(verbs: Verbs) -> Iterator[tuple[str, VerbParser]]:
    """Yield the name and the parser of every verb: of ``module:verb`` it is ``module:verb_parser``.

    A verb of verbs, such as ``data``, has their table in ``module:DATA_VERBS`` instead.
    """
    for name, (_, target) in verbs.items():
        module, _, function = target.partition(":")
        try:
            inner: Verbs = load(f"{module}:{function.upper()}_VERBS")
        except AttributeError:
            yield name, load(f"{target}_parser")()
        else:
            yield from ((f"{name} {inner_name}", parser) for inner_name, parser in verb_parsers(inner))


def _words(verbs: Verbs) -> dict[str, list[str]]:
    """Return what may follow: by the words before, and by ``verb --option`` for choices."""
    words: dict[str, list[str]] = {"": sorted(verbs)}
    for name, parser in verb_parsers(verbs):
        first, _, second = name.partition(" ")
        if second:
            words.setdefault(first, []).append(second)
        flags = [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
        free = [choice for option in parser.options if not option.action.option_strings for choice in option.choices]
        words[name] = [*flags, *free]
        for option in parser.options:
            if option.choices and option.action.option_strings:
                words[f"{name} {option.name}"] = list(option.choices)
    return words


def bash(verbs: Verbs) -> str:
    """Return the completion of bash; where no word of ours is meant it completes files."""
    cases = "\n".join(
        f"    {shlex.quote(key)}) words={shlex.quote(' '.join(w))} ;;" for key, w in _words(verbs).items()
    )
    nested = "|".join(sorted({name.partition(" ")[0] for name, _ in verb_parsers(verbs) if " " in name}))
    return f"""_geodistill() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" verb="" words=""
  (( COMP_CWORD > 1 )) && verb="${{COMP_WORDS[1]}}"
  case "$verb" in {nested}) (( COMP_CWORD > 2 )) && verb="$verb ${{COMP_WORDS[2]}}" ;; esac
  local key="$verb"
  [[ "$before" == --* ]] && _geodistill_words "$verb $before" && key="$verb $before"
  _geodistill_words "$key"
  COMPREPLY=()
  while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -W "$words" -- "$current")
  [[ ${{#COMPREPLY[@]}} -eq 0 ]] && while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$current")
  return 0
}}
_geodistill_words() {{
  case "$1" in
{cases}
    *) words=""; return 1 ;;
  esac
}}
complete -o filenames -F _geodistill geodistill"""


def zsh(verbs: Verbs) -> str:
    """Return the completion of zsh, which runs that of bash."""
    return f"autoload -U +X bashcompinit && bashcompinit\n{bash(verbs)}"


def fish(verbs: Verbs) -> str:
    """Return the completion of fish."""
    lines = []
    for name, (about, _) in verbs.items():
        lines.append(f"complete -c geodistill -n __fish_use_subcommand -f -a {name} -d {shlex.quote(about)}")
    for name, parser in verb_parsers(verbs):
        first, _, second = name.partition(" ")
        here = f"__fish_seen_subcommand_from {first}"
        if second:
            lines.append(f"complete -c geodistill -n '{here}' -f -a {second}")
            here = f"{here}; and __fish_seen_subcommand_from {second}"
        for option in parser.options:
            form = f"complete -c geodistill -n '{here}'"
            known = f" -x -a {shlex.quote(' '.join(option.choices))}" if option.choices else ""
            for flag in option.action.option_strings:
                value = known or ("" if option.action.nargs == 0 else " -r")
                lines.append(f"{form} -l {flag.removeprefix('--')}{value}")
            if known and not option.action.option_strings:
                lines.append(f"{form}{known}")
    return "\n".join(lines)
