"""Whether the brokers take our login: asked once at the start, when a wrong password should be seen.

A client that is refused looks like one that can't reach anybody, and is made anew for ever.
"""

from __future__ import annotations

import asyncio
import ssl

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from lakegate_chassis.eventlog.kafka.connections import Connections
from lakegate_chassis.logs import log
from lakegate_chassis.settings import KafkaSettings

SECONDS = 5.0
_DENIED = (AuthenticationFailedError, SaslAuthenticationFailed, UnsupportedSaslMechanismError)


class LoginRefused(RuntimeError):
    """Brokers answer, and none of them lets us in; the message names the settings, and no secret."""


async def check_login(settings: KafkaSettings) -> None:
    """Raises LoginRefused. Brokers that are away decide nothing: they are waited for as ever."""
    if settings.bootstrap is None or settings.security == "PLAINTEXT":
        return
    options = Connections(settings).login
    refusals: list[str] = []
    for address in settings.bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            async with asyncio.timeout(SECONDS):
                connection = await create_conn(host.strip("[]"), int(port), **options)
        except ssl.SSLError as error:
            refusals.append(f"{address}: TLS: {error.reason or type(error).__name__}; see KAFKA__CA_FILE")
        except _DENIED as error:
            refusals.append(f"{address}: {settings.sasl_mechanism} for {settings.username!r}: {type(error).__name__}")
        except (OSError, KafkaError, TimeoutError):
            continue
        else:
            connection.close()
            return
    if refusals:
        log.error("kafka_login_refused", security=settings.security, brokers=refusals)
        raise LoginRefused(
            f"Kafka refuses us ({'; '.join(refusals)}). Check KAFKA__SECURITY, KAFKA__SASL_MECHANISM, KAFKA__USERNAME "
            "and KAFKA__PASSWORD of this service."
        )
