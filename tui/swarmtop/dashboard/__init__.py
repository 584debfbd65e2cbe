"""The dashboard. Start it with `app.run_dashboard`; `lines/` and `state/` do without Textual, `screens/` and `widgets/`
use it."""
