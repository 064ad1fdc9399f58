"""Who a request is from."""

from __future__ import annotations

import asyncio
import base64
import hashlib

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.access.credentials import (
    ANYBODY,
    Credentials,
    Scope,
    TooManyAttempts,
    Unauthenticated,
)

HASHED = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


def asked(credentials, authorization):
    return asyncio.run(credentials.principal(authorization))


def basic(user, password):
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def test_without_tokens_and_users_anybody_may_do_all():
    assert asked(Credentials({}, {}), "") is ANYBODY
    assert ANYBODY.scopes == set(Scope)


def test_a_token_may_be_stored_as_its_digest():
    digest = hashlib.sha256(b"t0ken").hexdigest()
    known = Credentials({"team": f"sha256:{digest}"}, {})

    assert asked(known, "Bearer t0ken").name == "team"
    for wrong in (digest, f"sha256:{digest}"):
        with pytest.raises(Unauthenticated):
            asked(known, f"Bearer {wrong}")


def test_admins_may_do_all_and_others_read():
    known = Credentials({"a": "token-a", "b": "token-b"}, {"u": HASHED}, admins=["b", "u"])

    assert asked(known, "bearer token-a").scopes == {Scope.READ}
    assert asked(known, "bearer token-b").scopes == set(Scope)
    assert asked(known, basic("u", "secret")).scopes == set(Scope)


@given(st.text(max_size=40))
def test_whatever_is_sent_is_refused_unless_it_is_a_token(text):
    known = Credentials({"a": "token-a"}, {})
    for header in (text, f"Bearer {text}", f"Basic {text}"):
        if header.split(" ", 1)[-1].strip() != "token-a":
            with pytest.raises(Unauthenticated):
                asked(known, header)


def test_a_password_is_verified_once_and_a_flood_of_wrong_ones_is_refused():
    known = Credentials({}, {"u": HASHED})

    async def flood():
        assert (await known.principal(basic("u", "secret"))).name == "u"
        wrong = (known.principal(basic("nobody", str(n))) for n in range(100))
        refused = asyncio.gather(*wrong, return_exceptions=True)
        # Whoever has logged in before does not wait behind them.
        again = await asyncio.wait_for(known.principal(basic("u", "secret")), 1)
        return again, await refused

    again, refused = asyncio.run(flood())

    assert again.name == "u"
    kinds = {type(err) for err in refused}
    assert kinds == {Unauthenticated, TooManyAttempts}
