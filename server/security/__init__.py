"""Who may call what, and over which connections. Knows gRPC's certificates, but no service, no model, no queue."""
