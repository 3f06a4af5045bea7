"""How a load is brought to its end, the parts that need no connection."""

from __future__ import annotations

import httpx
from pydantic import ValidationError

from lakegate.client.calls import model
from lakegate.client.errors import BrokenAnswer, LoadFailed
from lakegate.client.models import Load, Problem
from lakegate_contracts.receipts import LoadState, Receipt

# Polling starts here and doubles up to the second: a small load is seen at once, a long one isn't asked to death.
FIRST_POLL_SECONDS = 0.05
LONGEST_POLL_SECONDS = 1.0
TERMINAL = (LoadState.COMPLETED, LoadState.FAILED)


def answered(response: httpx.Response) -> Receipt | Load:
    """What a POST of a load answered: the receipt (200, 201), or the load that goes on (202)."""
    if response.status_code == httpx.codes.ACCEPTED:
        return model(Load)(response)
    try:
        return Receipt.model_validate_json(response.content)
    except ValidationError as error:
        raise BrokenAnswer(f"The answer to a load is no receipt: {response.text[:200]!r}") from error


def receipt_of(load: Load) -> Receipt:
    """The receipt of a settled load. Raises LoadFailed with the problem that ended it."""
    if load.receipt is not None:
        return load.receipt
    problem = load.problem or Problem(
        title="Load failed", detail=f"Load {load.load_id} ended without a receipt and without a reason."
    )
    raise LoadFailed(problem, load.load_id)
