"""The commands about one's own images by name: `s2l check`, `predict` and `export`.

The libraries that a command needs are imported by its function, so that `s2l --help` is there at
once.
"""

from s2l_images.commands.check_command import CHECK
from s2l_images.commands.export_command import EXPORT
from s2l_images.commands.predict_command import PREDICT

COMMANDS = {"check": CHECK, "predict": PREDICT, "export": EXPORT}
