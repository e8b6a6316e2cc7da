"""The messages of the contract `leasehold.v1`, generated from proto/ when the package is built."""
