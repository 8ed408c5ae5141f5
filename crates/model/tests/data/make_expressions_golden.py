"""Records what Jinja2 makes of expressions, in the environment that Hugging Face's transformers gives to
chat templates.

Usage: make_expressions_golden.py > expressions_golden.json
Needs `pip install jinja2` (3.1.6 was used).
"""

import json

from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

EXPRESSIONS = [
    # A text on the left of `%`.
    "'%s and %d' % ('a', 2)",
    "'%s' % 'a'",
    "'%s' % none",
    "'%s %s' % (true, 1.5)",
    "'%r %r' % ('it\\'s', ['a', 1])",
    "'%05.2f|%-6d|%+d|% d|%6s' % (3.14159, 42, 7, 7, 'ab')",
    "'%x %X %o %#x %e %g %c' % (255, 255, 8, 255, 1234.5, 0.5, 'z')",
    "'%i %u %ld' % (1, 2, 3)",
    "'%d' % 3.9",
    "'%d' % true",
    "'%5.1s|' % 'abc'",
    "'%*d|%.*f' % (5, 42, 2, 1.005)",
    "'100%%' % ()",
    "'%d%%' % 50",
    "'%(name)s is %(age)03d, %(name)r' % {'name': 'Ann', 'age': 7}",
    "'%s' % {'a': 1}",
    "'%s' % [1, 'x']",
    "'%s' % ((1, 2),)",
    "'none' % {'a': 1}",
    "'none' % [1]",
    "'none' % 1",
    "'%s %s' % 'a'",
    "'%s' % ('a', 'b')",
    "'%(x)s' % {'a': 1}",
    "'%(x)s' % 1",
    "'%d' % 'a'",
    "'%y' % 1",
    "'%' % 1",
    # Ranks.
    "'a' + '%s' % 'b' + 'c'",
    "'a' ~ '%s' % 'b' ~ 'c'",
    "'%s' % 'b' | upper",
    "('%s' % 'b') | upper",
    "'%s' % 'abc'[1:].upper()",
    "'%s-%%s' % 'a' % 'b'",
    "'%d' % 2 * 3",
    "2 * '%d' % 3",
    "'%d' % -3 ** 2",
    "'%s' % 'b' == 'b' and not '%s' % '' ",
    "'%s' % 'x' if 7 % 2 else 'y'",
    "'%s' % text.strip() ~ '%'",
    "['%s' % 1, '%s' % 2][3 % 2]",
    "{'k%d' % 1: '%s' % 'v'}",
    "'%s' % ('%s' % ('%s' % 'deep'))",
    "'%s' % (1 if false else 2)",
    "text[-1 % 3:] | replace('%s' % ' ', '%d' % 1)",
    "'%s' % 1 in ['1', '2']",
    "'%s' % 1 not in ['1', '2']",
    "'%s' % 3 is divisibleby(3)",
    "'%s' % text is not none",
    "dict(a='%s' % 1).a",
    # Remainders.
    "7 % 3",
    "-7 % 3",
    "7 % -3",
    "7.5 % 2",
    "-7.5 % 2",
    "2 * 7 % 3 * 2",
    "17 % 7 % 2",
    "1 + 7 % 3 == 2",
    "7 % 2 == 1",
    "7 % 2 is odd",
    "true % 2",
    "7 % 0",
    "none % 2",
    # Functions and filters.
    "dict(x=1, y=2)",
    "dict({'a': 1, 'x': 0}, x=1)",
    "dict()",
    "dict(1)",
    "'%s, %s' | format(1, 'b')",
    "'%(a)s' | format(a=1)",
    "'two  words, it\\'s \u00e9t\u00e9_1!' | wordcount",
    "'' | wordcount",
    "12.5 | wordcount",
    "'<a href=\"b/c\">\\'&' | escape",
    "'<' | e",
    "'<' | safe | e",
    "'<' | safe | forceescape",
    "'<\"' | forceescape",
    "1 | forceescape",
]

environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
recorded = []
for expression in EXPRESSIONS:
    try:
        output = environment.from_string("{{ " + expression + " }}").render(text=" a b ")
    except Exception:
        output = None
    recorded.append([expression, output])
print("[\n" + ",\n".join("  " + json.dumps(pair) for pair in recorded) + "\n]")
