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


def _known_words(verbs: Verbs) -> str:
    """Return a function of bash and zsh: puts into ``known`` what may follow its argument, fails where nothing may."""
    cases = "\n".join(
        f"    {shlex.quote(key)}) known={shlex.quote(' '.join(words))} ;;" for key, words in _words(verbs).items()
    )
    return f"""_geodistill_known() {{
  case "$1" in
{cases}
    *) known=""; return 1 ;;
  esac
}}"""


def _of_verbs(verbs: Verbs) -> str:
    """Return the verbs that have verbs of their own as a shell's pattern."""
    return "|".join(sorted({name.partition(" ")[0] for name, _ in verb_parsers(verbs) if " " in name}))


def bash(verbs: Verbs) -> str:
    """Return the completion of bash; where no word of ours is meant it completes files."""
    return f"""{_known_words(verbs)}
_geodistill() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" verb="" known=""
  (( COMP_CWORD > 1 )) && verb="${{COMP_WORDS[1]}}"
  case "$verb" in {_of_verbs(verbs)}) (( COMP_CWORD > 2 )) && verb="$verb ${{COMP_WORDS[2]}}" ;; esac
  [[ "$before" == --* ]] && _geodistill_known "$verb $before" || _geodistill_known "$verb"
  COMPREPLY=()
  while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -W "$known" -- "$current")
  [[ ${{#COMPREPLY[@]}} -eq 0 ]] && while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$current")
  return 0
}}
complete -o filenames -F _geodistill geodistill"""


def zsh(verbs: Verbs) -> str:
    """Return the completion of zsh; where no word of ours is meant it completes files."""
    return f"""{_known_words(verbs)}
_geodistill() {{
  local before="$words[CURRENT-1]" verb="" known=""
  (( CURRENT > 2 )) && verb="$words[2]"
  case "$verb" in {_of_verbs(verbs)}) (( CURRENT > 3 )) && verb="$verb $words[3]" ;; esac
  [[ "$before" == --* ]] && _geodistill_known "$verb $before" || _geodistill_known "$verb"
  compadd -- ${{=known}} || _files
}}
compdef _geodistill geodistill"""


FISH_PLACE = """function __geodistill_after
  set -l words (commandline -opc)[2..]
  test "$words[1..$(count $argv)]" = "$argv"
end
function __geodistill_at
  set -l words (commandline -opc)[2..]
  test "$words" = "$argv"
end"""
"""fish's functions on what stands before the completed word: it begins with these words, or is them."""


def fish(verbs: Verbs) -> str:
    """Return the completion of fish."""
    lines = [FISH_PLACE]
    for name, (about, _) in verbs.items():
        lines.append(f"complete -c geodistill -n __fish_use_subcommand -f -a {name} -d {shlex.quote(about)}")
    for name, parser in verb_parsers(verbs):
        first, _, second = name.partition(" ")
        if second:
            lines.append(f"complete -c geodistill -n '__geodistill_at {first}' -f -a {second}")
        for option in parser.options:
            form = f"complete -c geodistill -n '__geodistill_after {name}'"
            known = f" -x -a {shlex.quote(' '.join(option.choices))}" if option.choices else ""
            for flag in option.action.option_strings:
                value = known or ("" if option.action.nargs == 0 else " -r")
                word = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
                lines.append(f"{form} {word}{value} -d {shlex.quote(option.about)}")
            if known and not option.action.option_strings:
                lines.append(f"{form}{known}")
    return "\n".join(lines)
