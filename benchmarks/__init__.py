"""How fast, beside a project without the app: ratios, measured in one run."""
