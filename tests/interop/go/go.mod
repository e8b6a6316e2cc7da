module leasehold.example/interop

go 1.22
