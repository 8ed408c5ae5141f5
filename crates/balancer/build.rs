//! Builds the balancer's own page (`ui/dist-balancer`) into the program, if it has been made.

fn main() -> std::io::Result<()> {
    infera_web_files::embed("../../ui/dist-balancer")
}
