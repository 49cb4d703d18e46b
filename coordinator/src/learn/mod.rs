//! Learning at the coordinator: how the changes of many stations become one head. The method is `star`, over the sums of `sums`;
//! `peers` are what others do, behind the same trait, to be compared with and for nothing else.

pub mod peers;
pub mod star;
pub mod sums;
