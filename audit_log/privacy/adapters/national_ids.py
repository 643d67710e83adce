"""National numbers of persons with check digits: python-stdnum (LGPL), extra `national-ids`.

`detector` finds those of `STRONG`, whose check digits, letters and dates leave little to chance.
Others, and fewer, by a module of the project's that DETECTORS names:

    ids = national_ids.for_ids("fr.nir", "pl.pesel")
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from audit_log.exceptions import ConfigurationError
from audit_log.privacy.detectors import Detector
from audit_log.privacy.finders import by_name
from audit_log.privacy.patterns import like_number

# How each is written; python-stdnum's module of that name says whether the check digits hold.
_WRITTEN: Final = {
    "be.nn": r"[0-9]{2}[. ]?[0-9]{2}[. ]?[0-9]{2}[- ]?[0-9]{3}[. ]?[0-9]{2}",
    "bg.egn": r"[0-9]{10}",
    "br.cpf": r"[0-9]{3}[. ]?[0-9]{3}[. ]?[0-9]{3}[- ]?[0-9]{2}",
    "cn.ric": r"[1-9][0-9]{16}[0-9X]",
    "de.idnr": r"[1-9][0-9][ ]?[0-9]{3}[ ]?[0-9]{3}[ ]?[0-9]{3}",
    "ee.ik": r"[1-6][0-9]{10}",
    "es.dni": r"[0-9]{8}[- ]?[A-Z]",
    "es.nie": r"[XYZ][- ]?[0-9]{7}[- ]?[A-Z]",
    "fi.hetu": r"[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-FHJ-NPR-Y]",
    "fr.nir": (
        r"[12][ ]?[0-9]{2}[ ]?[0-9]{2}[ ]?(?:[0-9]{2}|2[AB])[ ]?[0-9]{3}[ ]?[0-9]{3}[ -]?[0-9]{2}"
    ),
    "gb.nhs": r"[0-9]{3}[- ]?[0-9]{3}[- ]?[0-9]{4}",
    "hr.oib": r"[0-9]{11}",
    "in_.aadhaar": r"[2-9][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}",
    "it.codicefiscale": (
        # Digits may be letters, where two persons would have the same: not the first two here.
        r"[A-Z]{6}[0-9]{2}[A-EHLMPR-T][0-9L-NP-V]{2}[A-Z][0-9L-NP-V]{3}[A-Z]"
    ),
    "mx.curp": r"[A-Z]{4}[0-9]{6}[HMX][A-Z]{5}[0-9A-Z][0-9]",
    "nl.bsn": r"[0-9]{4}[.]?[0-9]{2}[.]?[0-9]{3}",
    "pl.pesel": r"[0-9]{11}",
    "ro.cnp": r"[1-9][0-9]{12}",
    "se.personnummer": r"(?:[0-9]{2})?[0-9]{6}[-+][0-9]{4}",
    "za.idnr": r"[0-9]{13}",
}
STRONG: Final = (
    *("be.nn", "br.cpf", "cn.ric", "es.dni", "es.nie", "fi.hetu", "fr.nir"),
    *("it.codicefiscale", "mx.curp"),
)
# Fewer digits in a row than eleven.
_DIGITS: Final = {
    "de.idnr": 10,
    "gb.nhs": 10,
    "bg.egn": 10,
    "se.personnummer": 6,
    "nl.bsn": 9,
    "es.dni": 8,
    "es.nie": 7,
    "fi.hetu": 6,
    "fr.nir": 5,
    "it.codicefiscale": 2,
    "mx.curp": 6,
}


def detector() -> tuple[Detector, ...]:
    """Finds those of `STRONG`. Raises ConfigurationError without the library."""
    return for_ids(*STRONG)


def for_ids(*names: str) -> tuple[Detector, ...]:
    """One detector for each, called `fr_nir` and the like. Raises ConfigurationError."""
    if find_spec("stdnum") is None:
        raise ConfigurationError(
            "It needs python-stdnum: pip install 'django-audit-ledger[national-ids]'."
        )
    unknown = sorted(set(names) - set(_WRITTEN))
    if unknown or not names:
        raise ConfigurationError(
            f"national_ids.for_ids() knows {', '.join(_WRITTEN)}, not {unknown or 'nothing'}."
        )
    return tuple(_detector(name) for name in dict.fromkeys(names))


def _detector(name: str) -> Detector:
    plain = name.replace("_", "").replace(".", "_")
    pattern = re.compile(rf"(?<![\w-]){_WRITTEN[name]}(?![\w-])")
    holds: Callable[[str], bool] = import_module(f"stdnum.{name}").is_valid
    pretest = like_number(_DIGITS.get(name, 11))
    return Detector(plain, pretest, by_name(plain, pattern, holds), personal=True)
