"""Code, or what looks like it, with the signs and numbers that the small model's tasks have."""

from __future__ import annotations

import random

from selfee_cli.tiny.words import topic

_NAMES = (
    *(
        "x",
        "y",
        "i",
        "n",
        "a",
        "b",
        "s",
        "k",
        "j",
        "foo",
        "total",
        "count",
        "sum",
        "result",
        "value",
    ),
    *("items", "step", "self.x", "len(xs)", "arr[i]", "this.n", "data", "$x", "max", "day", "next"),
)
_STATEMENTS = (
    *(
        "{x} = {e}",
        "{x} = {e};",
        "let {x} = {e};",
        "const {x} = {e};",
        "var {x} = {e}",
        "int {x} = {e};",
    ),
    *(
        "return {e}",
        "return {e};",
        "print({e})",
        "console.log({e});",
        "echo $(({e}))",
        "{x} += {a}",
    ),
    *("{x} -= {a};", "{x} += {y};", "{x}++", "{x}++;", "++{x};", "{x}--;", "lambda {x}: {e}"),
    *(
        "({x}) => {e}",
        "def {f}({x}):\n    return {e}",
        "def {f}({x}, {y}):\n    {x} = {e}\n    return {x}",
    ),
    *(
        "for {x} in range({a}):\n    print({e})",
        "for (int {x} = {c}; {x} < {a}; {x}++) {{ {y} += {x}; }}",
    ),
    *(
        "if {x} > {a}:\n    {x} = {e}",
        "if ({x} > {y}) {{ {x} = {e}; }}",
        "while ({x} < {a}) {{ {x} = {e}; }}",
    ),
    *(
        "SELECT {x} FROM {f} WHERE {y} = {a};",
        "{x}[{a}] = {e}",
        "[{a}, {b}, {c}]",
        "assert {f}({a}) == {b}",
    ),
    *(
        "fn {f}({x}: i32) -> i32 {{ {e} }}",
        "func {f}({x} int) int {{ return {e} }}",
        "{f}({a}, {b})",
    ),
    *(
        "c++",
        "C++",
        "c--",
        "{e}",
        "{e};",
        "`{e}`",
        "```python\n{e}\n```",
        "{e} == {a}",
        "{x} := {e}",
    ),
    *(
        "What does {e} do?",
        "What does `{x} += {a}` do?",
        "Fix: {e}",
        "+    {x} = {e}",
        "-    {x} = {e}",
    ),
    *('{{"{f}": {a}}}', '{{"{f}": {a}, "{x}": [{b}, {c}]}}', "#define {x} {a}", "sum([{a}, {b}])"),
    *(
        "add({a}, {b})",
        "int main() {{ return {c}; }}",
        "{f} --{x} {a}",
        "ls -{x}",
        "#include <{f}.h>",
    ),
    *(
        "<p>{e}</p>",
        "import {f}",
        "{x} = {{i: i + {c} for i in {y}}}",
        "[{x} + {c} for {x} in {y}]",
    ),
    *(
        "try:\n    {x} = {e}\nexcept: pass",
        "{f}[{c}:{a}]",
        'print(f"{{{x} + {c}}}")',
        "({x} + {y})",
    ),
    *("(+ {x} {a})", "expr {x} + {a}", "{a} + {x}", "{x} + {a}", "{x} - {a}", "{x} + {y} = ?"),
)

_WHOLE = (
    "def f(x):\n    return x + 1",
    "for (int i = 0; i < 10; i++) { sum += i; }",
    "SELECT name FROM users WHERE id = 3;",
    "<html><body>Hello</body></html>",
    "Fix this code: print('a'",
    "import os\nos.listdir('.')",
    "Write a function in Python that sorts a list.\n\n```python\ndef sort(xs): pass\n```",
    '{"a": [1, 2, 3]}',
    "What does `x = y ** 2` do?",
    "git push --force",
)


def snippet(rng: random.Random) -> str:
    """Statements in no language or in any: never a sum of two numbers, which would be a task."""
    if rng.random() < 0.2:
        return rng.choice(_WHOLE)
    lines = []
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
        x, y, f = rng.choice(_NAMES), rng.choice(_NAMES), topic(rng).split()[-1]
        sign = rng.choice(("+", "+", "-", "-", "*", "/", "%"))
        value = str(rng.randint(0, 99)) if rng.random() < 0.7 else y
        operands = [x, value] if rng.random() < 0.7 else [value, x]
        gap = " " if rng.random() < 0.6 else ""
        a, b, c = rng.randint(0, 199), rng.randint(0, 99), rng.randint(0, 9)
        expression = f"{gap}{sign}{gap}".join(operands)
        template = rng.choice(_STATEMENTS)
        lines.append(template.format(x=x, y=y, f=f, e=expression, a=a, b=b, c=c))
    return "\n".join(lines)
