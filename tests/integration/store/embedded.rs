//! The embedded store: the common contract, and what only a store on a disk can get wrong.

use super::embedded_fixture;

leasehold::store_contract!(super::embedded_fixture);
leasehold::store_expiry_contract!(super::embedded_fixture);
