# SPDX-License-Identifier: Apache-2.0
r"""Go's text/template, for confd's templates and the load balancer's rewrites.

::

    text ─► lex ─► parse ─► nodes ─► compile: closures ─► render(data) ─► text
                                        │         ▲
                              builtins, printf    └─ functions: Func(call, parameter types)

Usable by itself::

    greeting = Template("hello.tmpl", "Hello {{.name | printf \"%q\"}}!")
    greeting.render({"name": "web"})        # 'Hello "web"!'

Every error is a TemplateError with Go's own text.
"""

from fairlead.gotemplate.errors import CallError, TemplateError
from fairlead.gotemplate.evaluate import Template
from fairlead.gotemplate.run import LIMITS, Limits
from fairlead.gotemplate.values import MISSING, Func, Struct, Value

__all__ = [
    "LIMITS",
    "MISSING",
    "CallError",
    "Func",
    "Limits",
    "Struct",
    "Template",
    "TemplateError",
    "Value",
]
