//! The hot paths as they are today, one function at a time: `make bench`. The numbers of a machine are comparable with
//! themselves only; what a server does under load is for the load tool.

mod document;
mod joins;
mod large;
mod material;
mod protocol;
mod store;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    protocol::benches(&mut criterion);
    document::benches(&mut criterion);
    joins::benches(&mut criterion);
    store::benches(&mut criterion);
    criterion.final_summary();
}
