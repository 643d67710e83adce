from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_log.privacy.names import Kind, Named, judge, kind_of, tokens

FOUND = {
    Kind.SECRET: """
        password passwd passphrase pwd secret apikey api_key access_key private_key client_secret
        token refresh_token id_token auth authorization proxy_authorization bearer credential
        credentials csrf csrftoken csrfmiddlewaretoken xsrf sessionid session_key cookie set_cookie
        jwt otp totp mfa_code pin recovery_code signature salt hash password_hash connection_string
        dsn database_url mysql_pwd webhook_secret encryption_key
        user_password password1 new_password2 passwords userPassword USERPASSWORD userpassword
        refreshToken OAuthToken accesstoken X-Api-Key X-CSRFToken Set-Cookie PHPSESSID JSESSIONID
        user[password] user.password apiKey2 pin_code user_pin PIN otp_secret auth_code user_pass
        pass x-hub-signature-256 secret_question password_hint passwordchangedat pass_word
    """,
    Kind.CARD_SECRET: "cvv CVC cvv2 csc track1 track2 track_2 card_exp card_exp_month card_expiry",
    Kind.CARD: "card_number cardnumber cardNumber ccnumber cc_number pan card_pan pan_number",
    Kind.BANK: "iban account_number routingNumber sort_code bic bank_account",
    Kind.IDENTITY: """
        ssn social_security tax_id itin nin nino aadhaar passport driver_license national_id dob
        date_of_birth dateOfBirth passport_no passport_number customer_ssn
    """,
    Kind.HEALTH: "mrn diagnosis icd icd10 icd_code medication medications insurance_id",
    Kind.CONTACT: """
        email e_mail email_address emails phone phone_number phone1 mobile mobile_phone address
        addresses address_line_1 addressLine2 billing_address postcode postal_code first_name
        lastName full_name user[email]
    """,
}
TRAPS = """
    author authority authors author_id authenticated tokenizer tokenized TokenizerConfig pinned
    spin pan_angle panel japan company hashtag hashTag commit_hash keyboard monkey key key_name
    secretary secretariat passport_required password_changed_at passwordChangedAt token_count
    token_type tokens_used_count max_tokens is_secret_question has_password password_required
    email_verified phone_type client_secret_expires_at cvc_check cookie_consent auth_backend
    auth_user_id signature_algorithm salty ip_address ipAddress mac_address addressee microphone
    saxophone voicemail automobile mobile_app_version passenger compass boarding_pass bicycle
    username name title description note amount status created_at last_login is_staff date_joined
    public_key user group count x 1 __class__
"""


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for kind, names in FOUND.items() for name in names.split()]
)
def test_a_name_tells_its_kind(name: str, kind: Kind):
    assert kind_of(name) is kind


@pytest.mark.parametrize("name", TRAPS.split())
def test_a_name_that_only_looks_like_one_is_left(name: str):
    assert kind_of(name) is None


ODD = "password api_key refreshtoken session_key cvv iban dateofbirth card_number"


@given(st.data())
def test_any_letter_case_tells_the_same(data: st.DataObject):
    """H1."""
    name = data.draw(st.sampled_from(ODD.split()))
    upper = data.draw(st.lists(st.booleans(), min_size=len(name), max_size=len(name)))
    odd = "".join(sign.upper() if up else sign for sign, up in zip(name, upper, strict=True))
    assert kind_of(odd) is kind_of(name)


@given(st.text(max_size=300))
def test_no_name_breaks_the_reading(name: str):
    assert kind_of(name) in {None, *Kind}
    assert all(tokens(name))


def test_letters_that_only_look_different_change_nothing():
    assert kind_of("\uff50\uff41ssword") is Kind.SECRET
    assert kind_of("pass\u200bword") is Kind.SECRET


def test_a_very_long_name_is_read_but_not_remembered():
    assert kind_of("x_" * 20_000 + "password") is Kind.SECRET
    assert judge("x_" * 20_000 + "nickname", ("nickname",)) is not None


def test_the_gravest_kind_wins():
    assert kind_of("email_token") is Kind.SECRET
    assert kind_of("passport_email") is Kind.IDENTITY


def test_the_rule_names_the_kind():
    assert judge("cardNumber") == Named(Kind.CARD, "name:card")
    assert judge("amount") is None


def test_a_masked_key_of_the_project_also_ends_longer_names():
    keys = ("nick_name",)
    expected = Named(Kind.SECRET, "setting:MASK_KEYS")
    assert [judge(name, keys) for name in ("nickName", "NICKNAME", "user_nick_name")] == [
        expected
    ] * 3
    assert judge("nickname_color", keys) is None


def test_a_safe_key_of_the_project_wins_over_everything_but_only_for_itself():
    assert judge("Token", (), ("token",)) is None
    assert judge("token", ("token",), ("token",)) is None
    assert judge("refresh_token", (), ("token",)) is not None
