"""The HTTP door of the service: routes, limits, the gate and the errors. It knows no model and no store."""
