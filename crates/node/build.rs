//! Builds the window's files (`ui/dist`) into the program, if they have been made.

fn main() -> std::io::Result<()> {
    infera_web_files::embed("../../ui/dist")
}
