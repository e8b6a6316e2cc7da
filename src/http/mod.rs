//! HTTP: OAuth endpoints, public documents, health and metrics.
