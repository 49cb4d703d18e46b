//! Makes cargo embed the dashboard anew when its build output changed; an empty folder is a build without dashboard.

fn main() {
    let dist = "dashboard/dist";
    // A folder that is not there would make cargo run this, and compile the crate, each time.
    if let Err(error) = std::fs::create_dir_all(dist) {
        println!("cargo::warning={dist} cannot be created ({error}): built without the dashboard");
    }
    println!("cargo::rerun-if-changed={dist}");
}
