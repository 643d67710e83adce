"""AWS KMS, where `ENCRYPTION_KEYS` holds keys that it wrapped. Credentials come from boto3's chain.

It is asked for the keys that wrap data keys, by workers and by whoever opens sealed contents; never
by a request that only writes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from audit_log import conf
from audit_log.exceptions import ConfigurationError, KeysUnavailable, UnknownKey

_CONNECT_SECONDS: Final = 3
_READ_SECONDS: Final = 5
_ATTEMPTS: Final = 2
# What was wrapped for this app is unwrapped for nothing else.
_CONTEXT: Final = {"app": "audit_log", "purpose": "ring-key"}
_WRONG_KEY: Final = {
    "InvalidCiphertextException",
    "IncorrectKeyException",
    "NotFoundException",
    "KMSInvalidStateException",
    "DisabledException",
    "InvalidKeyUsageException",
}


@lru_cache(maxsize=1)
def _client() -> Any:
    return boto3.session.Session().client(
        "kms",
        config=Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        ),
    )


conf.on_change(_client.cache_clear)


def unwrap(wrapped: bytes) -> bytes:
    """The key itself, of 32 bytes. Raises UnknownKey; KeysUnavailable where it may work later."""
    try:
        answer = _client().decrypt(CiphertextBlob=wrapped, EncryptionContext=_CONTEXT)
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _WRONG_KEY:
            raise UnknownKey(
                f"AWS KMS does not unwrap a key of ENCRYPTION_KEYS ({code}): the key it was "
                "wrapped with was deleted or disabled, is in another region, or the value is not "
                "what `rekey --new-key kms` printed."
            ) from error
        raise KeysUnavailable(f"AWS KMS refuses to unwrap a key now: {error}") from error
    except BotoCoreError as error:
        raise KeysUnavailable(f"AWS KMS cannot be asked now: {error}") from error
    secret = bytes(answer["Plaintext"])
    if len(secret) != conf.KEY_BYTES:
        raise UnknownKey(f"What AWS KMS unwrapped has {len(secret)} bytes, not {conf.KEY_BYTES}.")
    return secret


def new_key(kms_key: str) -> bytes:
    """A new random key, wrapped; the key itself never leaves KMS. Raises ConfigurationError."""
    try:
        answer = _client().generate_data_key_without_plaintext(
            KeyId=kms_key, NumberOfBytes=conf.KEY_BYTES, EncryptionContext=_CONTEXT
        )
    except (ClientError, BotoCoreError) as error:
        raise ConfigurationError(f"AWS KMS makes no key under {kms_key!r}: {error}") from error
    return bytes(answer["CiphertextBlob"])
