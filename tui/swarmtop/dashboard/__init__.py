"""The dashboard: `run.run_dashboard` starts it. `lines/` and `state/` do not use Textual, `screens/` and `widgets/`
do."""
