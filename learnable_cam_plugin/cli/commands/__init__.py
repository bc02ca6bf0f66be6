"""The sub-commands: a file each, of options and help alone."""

from .analyze import analyze_command
from .benchmark import benchmark_command
from .demo import demo_command
from .doctor import doctor_command
from .explain import explain_command
from .export import export_command
from .info import info_command
from .quickstart import quickstart_command
from .train import train_command

COMMANDS = [
    quickstart_command,
    explain_command,
    analyze_command,
    train_command,
    benchmark_command,
    export_command,
    demo_command,
    info_command,
    doctor_command,
]
