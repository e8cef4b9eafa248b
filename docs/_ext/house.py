"""What Sphinx has to know of this project: its docstrings, its public names, and that a broken reference fails.

Docstrings are plain text: formulas are indented, names stand in single backticks. Here they become reStructuredText.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pkgutil import iter_modules
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

import scoresde

log = logging.getLogger(__name__)
SECTIONS = ("Args:", "Attributes:", "Raises:", "Returns:", "Yields:")
FULL_NAME = re.compile(r"scoresde(\.\w+)+")


def find(name: str) -> Any:
    """The object with a full dotted name, or None."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:k]))
        except ImportError:
            continue
        for part in parts[k:]:
            found = getattr(found, part, None)
        return found
    return None


def home(obj: Any) -> str | None:
    """The full name of a class or function of this project where it is defined."""
    module = getattr(obj, "__module__", None) or ""
    described = inspect.isclass(obj) or inspect.isfunction(obj)
    return f"{module}.{obj.__qualname__}" if described and module.split(".")[0] == "scoresde" else None


@cache
def public() -> dict[str, Any]:
    """The public names of all parts of the package."""
    parts = [importlib.import_module(f"scoresde.{info.name}") for info in iter_modules(scoresde.__path__) if info.ispkg]
    return {name: getattr(part, name) for part in parts for name in getattr(part, "__all__", ())}


class Members(Directive):
    """`.. members:: scoresde.sampling` documents the public names of a module.

    Options:
        of: the subclasses of this class alone, the class itself first.
        but: names to leave out.
        only: these names, in this order.
    """

    required_arguments = 1
    option_spec: ClassVar = {"of": directives.unchanged, "but": directives.unchanged, "only": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        lines = StringList()
        for name in self.names():
            obj = find(f"{self.arguments[0]}.{name}")
            kind = "exception" if inspect.isclass(obj) and issubclass(obj, BaseException) else "class"
            kind = kind if inspect.isclass(obj) else "function" if callable(obj) else "data"
            prefix = "scoresde" if name in scoresde.__all__ else self.arguments[0]
            options = ("members", "show-inheritance") if kind == "class" else ()
            for line in (f".. auto{kind}:: {prefix}.{name}", *(f"   :{option}:" for option in options), ""):
                lines.append(line, "members")
        node = nodes.container()
        self.state.nested_parse(lines, self.content_offset, node)
        return node.children

    def names(self) -> list[str]:
        module = find(self.arguments[0])
        if only := self.options.get("only"):
            return only.split()
        own = [n for n, o in vars(module).items() if (home(o) or "").startswith(f"{module.__name__}.") and n[0] != "_"]
        names = [n for n in getattr(module, "__all__", own) if n not in self.options.get("but", "").split()]
        if of := self.options.get("of"):
            bases = tuple(getattr(module, name) for name in of.split())
            names = [n for n in names if inspect.isclass(c := getattr(module, n)) and issubclass(c, bases)]
            names.sort(key=lambda n: (getattr(module, n) not in bases, not inspect.isabstract(getattr(module, n)), n))
        return names


class Links(SphinxTransform):
    """Make a link of every literal that is a full name of this project, in pages and in docstrings."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        for literal in list(self.document.findall(nodes.literal)):
            text = literal.astext()
            if FULL_NAME.fullmatch(text) and not isinstance(literal.parent, addnodes.pending_xref):
                target = home(find(text)) or text
                link = addnodes.pending_xref("", literal.deepcopy(), refdomain="py", reftype="obj", reftarget=target)
                link.source, link.line = literal.source, literal.line
                link["refdoc"] = self.env.current_document.docname
                literal.replace_self(link)


def missing(app: Sphinx, env: BuildEnvironment, node: nodes.Element, contnode: nodes.Node) -> nodes.Node | None:
    """Find where an object is documented by another name; accept what has no page, and names of other projects.

    Anything else is a broken reference.
    """
    target, domain = node.get("reftarget", ""), env.get_domain("py")
    if node.get("refdomain") != "py":
        return None
    if target.split(".")[0] != "scoresde":
        return contnode
    obj = find(target)
    for name, *_ in domain.get_objects():
        if obj is not None and name != target and name.split(".")[-1] == target.split(".")[-1] and find(name) is obj:
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, contnode)
    return contnode if obj is not None else None


def docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turn a docstring of this project into what napoleon reads."""
    names = getattr(obj, "__globals__", None) or vars(inspect.getmodule(obj) or object)
    result: list[str] = []
    for kind, block in groupby(zip(_kinds(lines), lines, strict=True), lambda pair: pair[0]):
        text = [line for _, line in block]
        if kind == "formula":
            result += ["", ".. code-block:: text", "", *text, ""]
        else:
            result += _inline("\n".join(text), names).split("\n")
    lines[:] = result


def _kinds(lines: list[str]) -> Iterator[str]:
    """What each line is: text (sections and lists included), or formula: indented, outside of sections and lists."""
    kind, section, before = "text", False, ""
    for line in lines:
        if line.strip() and not line.startswith(" "):
            kind, section = "text", line in SECTIONS or line.startswith("- ")
        elif line.startswith("    ") and not section and not before.strip():
            kind = "formula"
        yield kind
        before = line


def _inline(text: str, names: dict[str, Any]) -> str:
    def code(match: re.Match[str]) -> str:
        inner = match[2]
        bare = inner.removesuffix("()")
        if re.fullmatch(r"[A-Z]\w+", bare):
            target = home(names.get(bare, public().get(bare)))
            if target:
                return f":py:obj:`~{target}`"
        return f"``{inner}``"

    pieces = re.split(r"((`+)(?:.+?)\2)", text, flags=re.DOTALL)
    out = []
    for i in range(0, len(pieces), 3):
        out.append(re.sub(r"([\\*|])|_(?!\w)", lambda m: "\\" + m[0], pieces[i]))
        if i + 1 < len(pieces):
            out.append(re.sub(r"(`+)(.+?)\1", code, pieces[i + 1], flags=re.DOTALL))
    return "".join(out)


def all_documented(app: Sphinx, env: BuildEnvironment) -> None:
    """Every public name has its place in the reference."""
    documented = {name for name, *_ in env.get_domain("py").get_objects()}
    for name in scoresde.__all__:
        if f"scoresde.{name}" not in documented and not inspect.ismodule(getattr(scoresde, name)):
            log.warning("scoresde.%s is public but on no page of docs/api", name)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("members", Members)
    app.add_transform(Links)
    app.connect("missing-reference", missing)
    app.connect("autodoc-process-docstring", docstring, priority=400)
    app.connect("env-check-consistency", all_documented)
    return {"parallel_read_safe": True}
