"""The sandbox: each evaluation of a stranger's files in a fresh, confined child of a warm fork server.

`Sandbox` is what a worker uses, `Confinement`, `Layer` and `Level` say how strongly a host confines,
`probe_host` finds it out without a server. The fork server is `tasks.sandbox.server`, the order in which a
child gives everything up `tasks.sandbox.confine`, the system calls for it `tasks.sandbox.primitives` and
`tasks.sandbox.filter`. What is evaluated in there, and how, is in `tasks.evaluation`; the sandbox moves bytes
and knows nothing of it.
"""

from tasks.sandbox.layers import MEANING, Confinement, Layer, LayerState, Level
from tasks.sandbox.sandbox import Answer, Sandbox, probe_host

__all__ = ["MEANING", "Answer", "Confinement", "Layer", "LayerState", "Level", "Sandbox", "probe_host"]
