"""`python -m audit_log.api` writes the OpenAPI document anew. Needs DJANGO_SETTINGS_MODULE."""

import django

if __name__ == "__main__":
    django.setup()
    from audit_log.api.schema import FILE, generate

    FILE.write_text(generate(), encoding="utf-8")
