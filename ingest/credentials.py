"""What looks like a credential: by the name it goes under, or by its own shape.

Shapes are those that the issuers document (AWS, GitHub, GitLab, Hugging Face, OpenAI, Slack, Google, NVIDIA),
private keys in PEM, JSON web tokens, and passwords in addresses. A value is never part of a result's key.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

REDACTED = "[redacted]"
# Longer values are cut for the look, which stays linear that way.
MAX_VALUE = 4096
# In every text in which something is found, for RE2 in Arrow and DuckDB: most texts hold none of it.
HINT = (
    r"(?i)token|secret|passw|passphrase|_pwd|api.?key|access.?key|private.?key|auth|credential|account.?key|bearer"
    r"|cookie|://[^/\s]*@|sk-|hf_|gh[pousr]_|github_pat_|glpat-|xox|akia|asia|aiza|nvapi-|eyj"
)

# name -> (a text that is in every match, the shape; its group 1 is the value)
_SHAPES = {
    "AWS key": ("AKIA", r"\b(AKIA[0-9A-Z]{16})\b"),
    "AWS session key": ("ASIA", r"\b(ASIA[0-9A-Z]{16})\b"),
    "GitHub token": ("gh", r"\b(gh[pousr]_[A-Za-z0-9]{30,255})"),
    "GitHub access token": ("github_pat_", r"(github_pat_[A-Za-z0-9_]{22,255})"),
    "GitLab token": ("glpat-", r"(glpat-[A-Za-z0-9_-]{20,})"),
    "Hugging Face token": ("hf_", r"\b(hf_[A-Za-z0-9]{30,})"),
    "API key": ("sk-", r"\b(sk-[A-Za-z0-9_-]{20,})"),
    "Slack token": ("xox", r"\b(xox[abposr]-[A-Za-z0-9-]{10,})"),
    "Google key": ("AIza", r"\b(AIza[0-9A-Za-z_-]{35})"),
    "NVIDIA key": ("nvapi-", r"\b(nvapi-[A-Za-z0-9_-]{20,})"),
    "web token": ("eyJ", r"\b(eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,})"),
    "private key": (
        "-----BEGIN",
        r"(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,4000}(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?)",
    ),
    "bearer token": ("earer", r"[Bb]earer\s{1,3}([A-Za-z0-9._~+/-]{16,}=*)"),
    "password in an address": ("://", r"://([^\s:/@\"']{0,200}:[^\s/@\"']{3,200})@"),
}
_COMPILED = [(label, literal, re.compile(pattern)) for label, (literal, pattern) in _SHAPES.items()]

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_WORDS = frozenset(
    ("password", "passwd", "passphrase", "secret", "secrets", "credential", "credentials", "authorization",
     "cookie", "apikey", "accesskey", "secretkey", "privatekey", "accountkey", "authtoken", "accesstoken", "hftoken")
)  # fmt: skip
_KEYS = frozenset(
    ("api", "access", "secret", "private", "auth", "account", "signing", "encryption", "subscription")
)
# Tokens of a language model, not of a person.
_MODEL_TOKENS = frozenset(
    ("pad", "bos", "eos", "unk", "mask", "sep", "cls", "stop", "per", "image", "first", "last", "next", "max",
     "min", "num", "special", "input", "output", "new", "decode", "prefill", "to", "1st", "st", "each", "a")
)  # fmt: skip
# Words within secret names, each with a text that is in all of its matches: looking for texts is quick.
_ANCHORS = [
    (word, re.compile(word))
    for word in ("token", "secret", "passwd", "password", "passphrase", "_pwd", "credential", "authorization", "cookie")
] + [("key", re.compile(r"(?:api|access|private|auth|account|signing|encryption|subscription)[_.-]?key"))]  # fmt: skip
_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.")
_VALUE = re.compile(
    r"""(?:\\?["'])?(?:[ \t]{0,8}[=:][ \t]{0,8}|[ \t]{1,8})(?:(?i:bearer|basic)[ ]{1,3})?(?:\\?["'])?([^\s"',;}\\]{1,4096})"""
)
_PLACEHOLDER = re.compile(
    r"(?i)[*x.•_-]+|<.*>?|\[.*|\{.*|\$.*|%.*%?|none|null|true|false|empty|unset|redacted|token|password|secret"
)
_NUMBER = re.compile(r"[-+]?[0-9.,]+(?:[eE][-+]?\d+)?|(?i:inf|nan)")


class Found(NamedTuple):
    """A value in a text: the name it goes under (or what its shape is called) and where it is."""

    key: str
    start: int
    end: int


def is_secret_name(name: str) -> bool:
    """Whether a value under this name is a credential.

    >>> [is_secret_name(n) for n in ("HF_TOKEN", "api-key", "awsSecretAccessKey", "eos_token", "max_tokens", "PWD")]
    [True, True, True, False, False, False]
    """
    words = [w.lower() for w in _WORD.findall(name)]
    if words[-2:] == ["key", "id"]:
        words.pop()
    if not words:
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last in _SECRET_WORDS:
        return True
    if last == "key":
        return before in _KEYS
    if last == "token":
        return before not in _MODEL_TOKENS
    return last == "pwd" and before not in ("", "old")


def is_secret(name: str, value: str) -> bool:
    """Whether ``value`` under ``name`` is a credential and not a placeholder, a number of tokens or nothing."""
    value = value.strip().strip("\"'")
    if not is_secret_name(name) or len(value) < 4 or _PLACEHOLDER.fullmatch(value):
        return False
    if name.lower().endswith("token"):
        return len(value) >= 8 and not _NUMBER.fullmatch(value) and " " not in value
    return True


def find(text: str) -> Iterator[Found]:
    """Yield the credentials in a text in the order they stand there: by shape, and in ``NAME=value``,
    ``"name": "value"`` and ``--name value``. No two overlap.
    """  # fmt: skip
    found = [
        Found(label, *m.span(1))
        for label, literal, shape in _COMPILED
        if literal in text
        for m in shape.finditer(text)
    ]
    found += _named(text)
    end = -1
    # Of two that overlap the one with a name comes first: it says more.
    for f in sorted(found, key=lambda f: (f.start, f.key in _SHAPES)):
        if f.start >= end:
            yield f
            end = f.end


def _named(text: str) -> Iterator[Found]:
    end = 0
    lower = text.lower()
    if len(lower) != len(text):  # a letter that is two in lower case: positions would shift
        lower = "".join(c.lower() if c.isascii() else c for c in text)
    anchors = sorted(m.span() for word, r in _ANCHORS if word in lower for m in r.finditer(lower))
    for first, last in anchors:
        if first < end:
            continue
        least, most = max(first - 64, end), min(last + 32, len(text))
        while first > least and text[first - 1] in _NAME_CHARACTERS:
            first -= 1
        while last < most and text[last] in _NAME_CHARACTERS:
            last += 1
        name = text[first:last]
        value = _VALUE.match(text, last)
        # A blank alone parts an option from its value (--api-key X), not two words of prose.
        if value is None or (not name.startswith("-") and not re.search("[=:]", text[last : value.start(1)])):
            continue
        if is_secret(name.lstrip("-"), value[1]):
            yield Found(name.strip("-."), *value.span(1))
            end = value.end(1)


def redact(text: str) -> str:
    """Return the text with every credential replaced by ``[redacted]``.

    >>> redact("run --api-key abc123def, HF_HOME=/x")
    'run --api-key [redacted], HF_HOME=/x'
    """
    parts, at = [], 0
    for f in find(text):
        parts += [text[at : f.start], REDACTED]
        at = f.end
    return "".join([*parts, text[at:]]) if parts else text


def redact_tree(value: Any, name: str = "") -> Any:
    """Return plain values of a document with every credential replaced, by name or by shape, at any depth."""
    if isinstance(value, dict):
        return {k: redact_tree(v, str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [redact_tree(v, name) for v in value]
    if isinstance(value, str):
        return REDACTED if is_secret(name, value) else redact(value)
    return value
