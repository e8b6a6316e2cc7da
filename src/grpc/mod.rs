//! gRPC: authorization, and the services of `leasehold.v1`.
