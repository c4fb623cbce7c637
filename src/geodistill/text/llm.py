"""Prompts from a language model: any OpenAI-compatible endpoint, asked once per question, its answers kept as JSON."""

from __future__ import annotations

import base64
import codecs
import json
import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from html import unescape
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import normalize
from urllib.parse import parse_qsl, unquote, urlsplit

from geodistill.errors import DataError, RecipeError, ServiceError, check_name
from geodistill.files import atomic_path
from geodistill.reading import read_object, within

if TYPE_CHECKING:
    from openai import OpenAI

KEY_VARIABLES = ("GEODISTILL_LLM_KEY", "OPENAI_API_KEY")
ANSWER_TOKENS = 120
MOST_CHARACTERS = 1000
FORMAT_VERSION = 1
ANSWER_BYTES = 1 << 20
"""Bytes of an endpoint's whole answer at most: two sentences take a thousandth of it."""

_PIECE, _LEAST = 12, 6
"""Letters and digits of a secret that an answer may not repeat in one piece; shorter secrets are none."""

_INSTRUCTION = (
    "You describe land cover for a segmentation model. Answer in at most two plain sentences of English, {words} words "
    "in all, without lists, markup or remarks on the question."
)


def answers_file(name: str) -> Path:
    """Return the path of a file of answers: of a JSON file, or of the one that the package ships under a name.

    Raises:
        UnknownNameError: The package ships none of that name.
    """
    if name.endswith(".json"):
        return Path(name)
    shipped = {path.stem: path for path in sorted((Path(__file__).parent / "answers").glob("*.json"))}
    check_name("shipped file of answers", name, shipped, "or give a .json file")
    return shipped[name]


class Answers:
    """The answers of one model in a file of answers: plain JSON, made to be read, edited and committed.

    Args:
        path: The file; may not exist yet.
        model: Whose answers count.

    Raises:
        DataError: The file is not such a file.
    """

    def __init__(self, path: Path, model: str) -> None:
        self._path, self._model, self._all = path, model, _load(path)

    def has(self, question: str) -> bool:
        """Say whether a question is answered."""
        return (self._model, question) in self._all

    def get(self, question: str) -> str:
        """Return the answer to a question that `has` one."""
        return self._all[self._model, question]

    def add(self, question: str, answer: str) -> None:
        """Keep an answer.

        Raises:
            OutputError: The file cannot be written.
        """
        self._all[self._model, question] = answer
        entries = [{"model": m, "question": q, "answer": a} for (m, q), a in sorted(self._all.items())]
        with atomic_path(self._path) as part:
            text = json.dumps({"format_version": FORMAT_VERSION, "answers": entries}, indent=2, ensure_ascii=False)
            part.write_text(text + "\n", encoding="utf-8")


class LlmWriter:
    """Answers questions through an endpoint, and from the file of answers where they were asked before.

    An edited answer is used as it stands. The key comes from the environment (`KEY_VARIABLES`) and is neither
    written nor shown.

    Args:
        url: Base address of the endpoint, such as ``http://localhost:11434/v1``.
        model: Name of the model there.
        answers: The JSON file; made at the first answer.
        timeout: Seconds for one try.
        retries: Further tries after a timeout, a lost connection, 429 or 5xx, each after a longer wait.
        words: Longest answer that is asked for, so that all classes together fit a prompt's length.

    Raises:
        RecipeError: The openai client is not installed.
        DataError: The file is not such a file.
    """

    def __init__(
        self, url: str, model: str, answers: Path, *, timeout: float = 60.0, retries: int = 3, words: int = 40
    ) -> None:
        self.model, self._answers = model, Answers(answers, model)
        self._instruction = _INSTRUCTION.format(words=words)
        key = next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), "")
        self._secrets = secrets_of(url, key)
        self._client = _client(url, key, timeout, retries)

    def pending(self, questions: Sequence[str]) -> list[str]:
        """Return the questions that the file has no answer to, each once."""
        return [q for q in dict.fromkeys(questions) if not self._answers.has(q)]

    def cost(self, questions: Sequence[str]) -> str:
        """Say what asking would cost at most, in one line."""
        asked = self.pending(questions)
        read = sum(len(q) + len(self._instruction) for q in asked) // 4
        return (
            f"{len(asked)} of {len(set(questions))} questions to {self.model}: about {read} tokens to read and at most "
            f"{len(asked) * ANSWER_TOKENS} to write"
        )

    def __call__(self, question: str) -> str:
        """Answer a question.

        Raises:
            ServiceError: The endpoint cannot be reached, refuses, or gives nothing usable.
            OutputError: The file cannot be written.
        """
        if not self._answers.has(question):
            answer = self._ask(question)
            if tells(answer, self._secrets):
                raise ServiceError(
                    "the language model's answer repeats the key it was asked with",
                    "an answer to the question",
                    "use another endpoint, and another key",
                )
            self._answers.add(question, clean(answer, self.model))
        return self._answers.get(question)

    def _ask(self, question: str) -> str:
        import openai

        messages: list[Any] = [{"role": "system", "content": self._instruction}, {"role": "user", "content": question}]
        try:
            reply = self._client.chat.completions.create(
                model=self.model, messages=messages, max_tokens=ANSWER_TOKENS, temperature=0.0
            )
            content = reply.choices[0].message.content
        except openai.APIStatusError as error:
            raise _failure(f"answers with status {error.status_code}") from error
        except openai.APITimeoutError as error:
            raise _failure("does not answer in time") from error
        except (openai.APIConnectionError, openai.APIResponseValidationError) as error:
            raise _failure("cannot be reached or breaks off") from error
        except (ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
            raise _failure("sends something that is no chat completion") from error
        if content is not None and not isinstance(content, str):
            raise _failure("sends something that is no chat completion")
        return content or ""


def secrets_of(url: str, key: str) -> tuple[str, ...]:
    """Return what an endpoint must not repeat: the key, and what the address holds."""
    parts = urlsplit(url)
    names = [unquote(name or "") for name in (parts.username, parts.password)]
    secrets = [key, *names, *(value for _, value in parse_qsl(parts.query))]
    return tuple(secret for secret in secrets if len(_letters(secret)) >= _LEAST)


def tells(answer: str, secrets: Sequence[str]) -> bool:
    """Whether an answer repeats a secret, or a long piece of one.

    As it is, spaced out, backwards, turned by 13 letters, in base64 or hex, in letters of another width, or as
    characters are written in HTML, addresses and programs, by their numbers too.
    """
    said = "\n".join(_letters(text) for text in (answer, _decoded(answer)))
    for secret in secrets:
        raw = secret.encode(errors="replace")
        # Base64 of what stands before it in a header begins at any third of it.
        coded = [base64.b64encode(b"x" * shift + raw).decode()[2 * shift :].rstrip("=")[:-1] for shift in range(3)]
        for form in (secret, secret[::-1], codecs.encode(secret, "rot13"), raw.hex(), *coded):
            plain = _letters(form)
            size = min(_PIECE, len(plain))
            if any(plain[at : at + size] in said for at in range(len(plain) - size + 1)):
                return True
    return False


def _decoded(text: str) -> str:
    """Return text with characters in place of what stands for them."""

    def number(code: re.Match[str]) -> str:
        return chr(int(code[1] or code[2], 16))

    text = re.sub(r"\\u\{?([0-9a-fA-F]{4})\}?|\\x([0-9a-fA-F]{2})", number, unquote(unescape(text)))
    return re.sub(r"(?<!\d)\d+(?:\W+\d+)+", lambda digits: _from_numbers(digits[0]), text)


def _from_numbers(text: str) -> str:
    numbers = [int(part) for part in re.findall(r"\d{1,6}", text)]
    return "".join(chr(number) for number in numbers if number < 0xD800)


def _letters(text: str) -> str:
    return "".join(c for c in normalize("NFKC", text).lower() if c.isalnum())


def clean(answer: str, model: str) -> str:
    """Turn an answer into one line of plain words; it is only ever read by a text encoder.

    Raises:
        ServiceError: The answer is empty or far longer than asked for.
    """
    text = "".join(c if c.isprintable() else " " for c in re.sub(r"https?://\S+", " ", answer))
    text = " ".join(re.sub(r"[*#`<>|_~\[\]{}]+", " ", text).split())
    if not text:
        raise ServiceError(f"an empty answer from {model}", "one or two sentences", "ask again or another model")
    if len(text) > MOST_CHARACTERS:
        raise ServiceError(
            f"an answer of {len(text)} characters from {model}",
            f"at most {MOST_CHARACTERS}",
            "ask a model that keeps to two sentences",
        )
    return text


def _client(url: str, key: str, timeout: float, retries: int) -> OpenAI:
    try:
        from openai import OpenAI
    except ImportError as error:
        raise RecipeError("--llm: openai is not installed", "", "pip install 'geodistill[text]'") from error
    if urlsplit(url).scheme not in ("http", "https"):
        raise RecipeError("--llm with something that is no address", "one such as http://localhost:11434/v1")
    client = bounded_client(ANSWER_BYTES, timeout)
    return OpenAI(base_url=url, api_key=key or "none", timeout=timeout, max_retries=retries, http_client=client)


def _failure(what: str) -> ServiceError:
    return ServiceError(f"the language model's endpoint {what}", "an answer", "try later, or use --llm-fallback")


def _load(path: Path) -> dict[tuple[str, str], str]:
    if not path.is_file():
        return {}
    answers: dict[tuple[str, str], str] = {}
    data = read_object(path)
    if "format_version" in data and data["format_version"] != FORMAT_VERSION:
        raise DataError(f"{path} of format {data['format_version']}", f"format {FORMAT_VERSION}")
    entries = data.get("answers") if "format_version" in data else None
    for entry in entries if isinstance(entries, list) else [None]:
        fields_of = entry if isinstance(entry, dict) else {}
        fields = [field for name in ("model", "question", "answer") if isinstance(field := fields_of.get(name), str)]
        if len(fields) != 3:
            raise DataError(
                f"{path} is no file of answers ({str(entry)[:80]})",
                "JSON with format_version and answers, each with model, question and answer",
                "mend it, or move it away to ask anew",
            )
        model, question, answer = map(str, fields)
        if (model, question) in answers:
            raise DataError(f"{path} with two answers of {model} to '{question[:80]}'", "one", "keep the right one")
        answers[model, question] = answer
    return answers


def bounded_client(limit: int, seconds: float) -> Any:
    """Return an HTTP client for openai's that breaks off answers larger than ``limit`` bytes, endless or compressed."""
    from openai import DefaultHttpxClient

    # The library below openai's client, whose name changed from one release to another.
    base = next(kind for kind in DefaultHttpxClient.__mro__ if kind.__name__ == "Client")
    http: Any = import_module(base.__module__.partition(".")[0])

    class Bounded(http.SyncByteStream):  # type: ignore[misc]
        """A stream of bytes with an end."""

        def __init__(self, stream: Any) -> None:
            self._stream = stream

        def __iter__(self) -> Iterator[bytes]:
            size = 0
            for part in self._stream:
                size += len(part)
                if size > limit:
                    raise http.ReadError(f"more than {limit} bytes")
                yield part

        def close(self) -> None:
            """Close the connection."""
            self._stream.close()

    class Client(DefaultHttpxClient):
        """A client whose whole answers, headers and all, are there in time."""

        def send(self, request: Any, **options: Any) -> Any:
            """Send a request."""
            try:
                return within(seconds, partial(super().send, request, **options))
            except TimeoutError as error:
                raise http.ReadTimeout("an answer that does not end") from error

    def bound(response: Any) -> None:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise http.ReadError("a compressed answer: a few bytes can stand for any number")
        response.stream = Bounded(response.stream)

    plain = {"Accept-Encoding": "identity"}
    return Client(timeout=seconds, headers=plain, event_hooks={"response": [bound]})
