"""MongoDB: LAKEGATE_TEST_MONGODB (a URI), else Docker, else a stand-in that speaks its wire protocol, by Maven.

No genuine mongod comes as a package. The stand-in (mongo-java-server) is atomic for single documents and keeps unique
indexes; it has no sessions, transactions, change streams or replica sets. Partial indexes, TTL indexes and validators,
which it would accept and ignore, it is made to refuse. `MongoDB.genuine` tells a test which of the two it has.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lakegate.embedded.ports import free_ports
from servers.docker import Container, one_port, require_docker
from servers.finding import Found, Source
from servers.maven import jars, java
from servers.processes import Control, Missing, ServerProcess, listens

IMAGE = "mongo:8.0"
STAND_IN = "1.47.0"
ADDRESS = "LAKEGATE_TEST_MONGODB"
_COORDINATES = (
    f"de.bwaldvogel:mongo-java-server:{STAND_IN}",
    "org.slf4j:slf4j-simple:1.7.36",
    # compiles the main below where there is a JRE and no JDK
    "org.eclipse.jdt:ecj:3.33.0",
)
# Its own versions announce wire version 8 at most, and current drivers demand 9: so it is given another.
# What it would accept and ignore it is made to refuse, so that no test is green by it.
_MAIN = """
import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import java.util.List;

public class StandIn extends MemoryBackend {
    @Override public Document handleMessage(MongoMessage message) {
        Document command = message.getDocument();
        if (command.containsKey("createIndexes")) {
            for (Object index : (Iterable<?>) command.get("indexes")) {
                refuse((Document) index, "partialFilterExpression", "expireAfterSeconds");
            }
        }
        if (command.containsKey("create") || command.containsKey("collMod")) refuse(command, "validator");
        return super.handleMessage(message);
    }

    private static void refuse(Document document, String... ignored) {
        for (String name : ignored) {
            if (document.containsKey(name)) {
                throw new MongoServerError(20, "IllegalOperation", "this stand-in would ignore " + name);
            }
        }
    }

    public static void main(String[] arguments) {
        MongoVersion version = new MongoVersion() {
            public List<Integer> getVersionArray() { return List.of(5, 0, 0); }
            public String toVersionString() { return "5.0.0"; }
            public int getWireVersion() { return 13; }
        };
        new MongoServer(new StandIn().version(version)).bind("127.0.0.1", Integer.parseInt(arguments[0]));
    }
}
"""
_STAND_IN_NOTE = "STAND-IN, no MongoDB (no sessions, transactions, replica sets)"


@dataclass(frozen=True)
class MongoDB:
    """`genuine` is False for the stand-in, which forgets everything when it stops. `control` as for Kafka."""

    uri: str
    genuine: bool
    control: Control | None


def from_address(_: Path) -> Found | None:
    address = os.environ.get(ADDRESS)
    if not address:
        raise Missing(f"{ADDRESS} is not set")
    shown = address.rpartition("@")[2].removeprefix("mongodb://")
    if _is_genuine(address):
        return Found(MongoDB(address, True, None), "address", shown)
    return Found(MongoDB(address, False, None), "address", f"{_STAND_IN_NOTE}: {shown}")


def from_docker(_: Path) -> Found | None:
    require_docker()
    port = one_port()
    container = Container(IMAGE, 27017, port=port, ready=lambda: _answers(port), environment={})
    container.start()
    return Found(MongoDB(f"mongodb://127.0.0.1:{port}", True, container), "Docker", IMAGE, container.stop)


def from_packages(folder: Path) -> Found | None:
    program = java()
    edition = hashlib.sha256(_MAIN.encode()).hexdigest()[:8]
    classes = jars(f"mongo-java-server-{STAND_IN}-{edition}", _COORDINATES, finish=_compile_main)
    (port,) = free_ports(1)
    options = ["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{classes}:{classes}/*"]
    process = ServerProcess(
        [program, *options, "StandIn", str(port)],
        folder=folder,
        ready=lambda: listens(port),
    )
    process.start()
    note = f"{_STAND_IN_NOTE}: mongo-java-server {STAND_IN} by Maven"
    return Found(MongoDB(f"mongodb://127.0.0.1:{port}", False, process), "packages", note, process.stop)


SOURCES: dict[str, Source] = {"address": from_address, "Docker": from_docker, "packages": from_packages}


def _compile_main(folder: Path) -> None:
    source = folder / "StandIn.java"
    source.write_text(_MAIN)
    compiler = [java(), "-cp", f"{folder}/*", "org.eclipse.jdt.internal.compiler.batch.Main", "-11", "-nowarn"]
    done = subprocess.run([*compiler, "-cp", _class_path(folder), source], capture_output=True, text=True)
    if done.returncode != 0:
        raise Missing(f"compiling the stand-in's main failed: {done.stderr[-300:]}")


def _class_path(folder: Path) -> str:
    return ":".join(str(jar) for jar in sorted(folder.glob("*.jar")))


def _answers(port: int) -> bool:
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    client = MongoClient("127.0.0.1", port, serverSelectionTimeoutMS=1000)
    try:
        client.admin.command("ping")
    except PyMongoError:
        return False
    finally:
        client.close()
    return True


def _is_genuine(address: str) -> bool:
    """Whether the server has sessions, which every MongoDB since 3.6 has and stand-ins have not. Raises Missing."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    client: MongoClient[dict[str, object]] = MongoClient(address, serverSelectionTimeoutMS=5000)
    try:
        return "logicalSessionTimeoutMinutes" in client.admin.command("isMaster")
    except PyMongoError as error:
        raise Missing(f"{ADDRESS} does not answer: {error}") from error
    finally:
        client.close()
