"""What the server is told before it starts: frozen sections, checked once, handed to whom they concern."""

from edge.config.resolve import ConfigError, Resolved, absent_models, load_config, missing_files, plain, resolve
from edge.config.sections import Admin, Advertise, Config, Http, Log, Model, Repository, Server

__all__ = [
    "Admin",
    "Advertise",
    "Config",
    "ConfigError",
    "Http",
    "Log",
    "Model",
    "Repository",
    "Resolved",
    "Server",
    "absent_models",
    "load_config",
    "missing_files",
    "plain",
    "resolve",
]
