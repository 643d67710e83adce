"""S3, and what speaks like it. The only module that imports boto3."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, NoReturn

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from audit_log.conf.retention import Archive, ArchiveOptions
from audit_log.exceptions import AlreadyThere, StoreError

logger = logging.getLogger("audit_log")

_CONNECT_SECONDS: Final = 5.0
_READ_SECONDS: Final = 60.0
_ATTEMPTS: Final = 5
_SMALL: Final = 128 * 1024  # colder classes bill smaller objects as if they had this size
_BUFFER: Final = 256 * 1024
_TAKEN: Final = {"PreconditionFailed", "412"}
_NOT_THERE: Final = {"NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed", "405"}
_NO_CONDITIONS: Final = {"NotImplemented", "501"}
_ROLE: Final = (
    "The role needs s3:PutObject, s3:GetObject, for a bucket with versions s3:GetObjectVersion, "
    "and of the bucket s3:ListBucket."
)
_ADVICE: Final = {
    "NoSuchBucket": 'Create the bucket, or correct AUDIT_LOG["ARCHIVE"].',
    "AccessDenied": _ROLE,
    "403": _ROLE,  # of a HEAD, which has no body to say more
    "InvalidObjectState": "It lies in a class that has to be restored before it can be read.",
    "ConditionalRequestConflict": "Another run is writing it; the next one will find it there.",
}
_LATER: Final = "Nothing is lost: the next run tries again."
_CREDENTIALS: Final = "boto3 found no credentials: give the process a role, or AWS_PROFILE."


class Bucket:
    """Objects of one bucket. Credentials come from boto3's own chain."""

    def __init__(
        self,
        archive: Archive,
        options: ArchiveOptions,
        *,
        connect_seconds: float = _CONNECT_SECONDS,
        read_seconds: float = _READ_SECONDS,
    ) -> None:
        self._bucket = archive.place
        self._options = options
        self._conditional = True
        self.name = f"s3://{archive.place}"
        self._client: Any = boto3.session.Session().client(
            "s3",
            endpoint_url=options.endpoint,
            region_name=options.region,
            config=Config(
                connect_timeout=connect_seconds,
                read_timeout=read_seconds,
                retries={"mode": "adaptive", "total_max_attempts": _ATTEMPTS},
                s3={"addressing_style": "path" if options.path_style else "auto"},
            ),
        )

    def put(self, key: str, source: BinaryIO, *, size: int, sha256: str) -> str:
        """One conditional PUT; the store itself compares the checksum."""
        request = {
            "Bucket": self._bucket,
            "Key": key,
            "Body": source,
            "ContentLength": size,
            "ChecksumAlgorithm": "SHA256",
            "ChecksumSHA256": base64.b64encode(bytes.fromhex(sha256)).decode(),
            **self._kept_how(size),
        }
        with _explained(f"{self.name}/{key}"):
            if self._conditional:
                start = source.tell()
                try:
                    return self._version(self._client.put_object(IfNoneMatch="*", **request))
                except ClientError as error:
                    if _code(error) not in _NO_CONDITIONS:
                        raise
                self._without_conditions()
                source.seek(start)
            if self.exists(key):
                self._taken(key)
            return self._version(self._client.put_object(**request))

    @contextmanager
    def open(self, key: str, version_id: str = "") -> Iterator[BinaryIO]:
        """The object's body as it comes; its checksum is compared at its end."""
        with _explained(f"{self.name}/{key}"):
            answer = self._client.get_object(
                Bucket=self._bucket, Key=key, ChecksumMode="ENABLED", **_version(version_id)
            )
        body = answer["Body"]
        try:
            yield io.BufferedReader(_Body(body, f"{self.name}/{key}"), _BUFFER)
        finally:
            body.close()

    def names(self, folder: str) -> Iterator[str]:
        """The objects whose keys begin with the folder, by pages."""
        prefix = f"{folder}/"
        with _explained(f"{self.name}/{prefix}"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix, Delimiter="/"):
                for each in page.get("Contents", ()):
                    yield each["Key"].removeprefix(prefix)

    def exists(self, key: str, version_id: str = "") -> bool:
        """Asked by HEAD. A delete marker, or a version that was removed, is a No."""
        with _explained(f"{self.name}/{key}"):
            try:
                self._client.head_object(Bucket=self._bucket, Key=key, **_version(version_id))
            except ClientError as error:
                if _code(error) not in _NOT_THERE:
                    raise
                return False
            return True

    def _kept_how(self, size: int) -> dict[str, str]:
        kept = {"ServerSideEncryption": "AES256"}
        if self._options.kms:
            kept = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self._options.kms}
        if self._options.storage_class and size >= _SMALL:
            kept["StorageClass"] = self._options.storage_class
        return kept

    def _version(self, answer: dict[str, Any]) -> str:
        found = answer.get("VersionId") or ""
        return "" if found == "null" else str(found)

    def _without_conditions(self) -> None:
        self._conditional = False
        logger.warning(
            "%s does not know If-None-Match: before each part is written, the archive asks whether "
            "it is there. Do not run two archivers at once.",
            self.name,
        )

    def _taken(self, key: str) -> NoReturn:
        raise AlreadyThere(f"{self.name}/{key} is there already; an archive is never overwritten.")


class _Body(io.RawIOBase):
    """A response's body as a file, its errors as ours."""

    def __init__(self, body: Any, where: str) -> None:
        self._body = body
        self._where = where

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        with _explained(self._where):
            chunk = self._body.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = _code(error)
        if code in _TAKEN:
            raise AlreadyThere(
                f"{where} is there already; an archive is never overwritten."
            ) from error
        if code in _NOT_THERE:
            raise StoreError(f"{where} is not there: it was moved or deleted.") from error
        raise StoreError(f"{where}: {error}. {_ADVICE.get(code, _LATER)}") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise StoreError(f"{where}: {error}. {_CREDENTIALS}") from error
    except BotoCoreError as error:
        raise StoreError(f"{where}: {error}. {_LATER}") from error


def _version(version_id: str) -> dict[str, str]:
    return {"VersionId": version_id} if version_id else {}


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
