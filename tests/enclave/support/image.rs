//! Images to boot: of the guest as cargo builds it for tests, with the libraries it is linked to, and of the static one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use holdfast_domain::Network;
use holdfast_nitro::eif::{Image, Ramdisk};

use super::chain;
use super::place::{guest, prepared, stripped};

/// What the kernel of an enclave is told, as `holdfast enclave build` does.
pub(crate) const COMMAND_LINE: &str = "reboot=k panic=1 pci=off nomodules console=ttyS0 random.trust_cpu=on";

/// A ramdisk for Debian's kernel, with the chain of these tests.
pub(crate) fn stock() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| stock_for(&chain::network()))
}

/// The same for a chain.
pub(crate) fn stock_for(network: &Network) -> Vec<u8> {
    stock_with_files(network, Vec::new())
}

/// A ramdisk for Debian's kernel: guest, libraries, modules, chain, and more files.
pub(crate) fn stock_with_files(network: &Network, files: Vec<(&str, Vec<u8>)>) -> Vec<u8> {
    let program = guest(false);
    let mut disk = Ramdisk::new().program("init", stripped(&program)).program("chain", chain::measured(network));
    disk = files.into_iter().fold(disk, |disk, (name, content)| disk.program(name, content));
    let mut folders = BTreeSet::from(["modules".to_owned()]);
    for library in libraries(&program) {
        let path = library.strip_prefix("/").unwrap();
        folders.extend(path.ancestors().skip(1).map(|folder| folder.to_str().unwrap().to_owned()));
        disk = disk.program(path.to_str().unwrap(), std::fs::read(&library).unwrap());
    }
    folders.remove("");
    let list = std::fs::read_to_string(prepared("vm/list", "vm")).unwrap();
    for name in list.lines() {
        let module = std::fs::read(prepared(&format!("vm/{name}"), "vm")).unwrap();
        disk = disk.program(&format!("modules/{name}"), module);
    }
    disk = disk.program("modules/list", list.into_bytes());
    folders.iter().fold(disk, |disk, folder| disk.directory(folder)).to_cpio().unwrap()
}

/// The libraries that the loader would load, and the loader.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd is missing: install the package libc-bin");
    let text = String::from_utf8(output.stdout).unwrap();
    let paths: Vec<PathBuf> = text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect();
    assert!(!paths.is_empty(), "ldd says nothing of {}: {text}", program.display());
    paths
}

/// The image of an enclave: the static guest, and the chain of these tests. `cargo` is what tells two images apart.
pub(crate) fn nitro(cargo: &[u8]) -> Image {
    let files = Ramdisk::new().program("chain", chain::measured(&chain::network())).program("cargo", cargo.to_vec());
    nitro_with(Some(files))
}

/// The image of an enclave for one chain: a built-in one is not in it.
pub(crate) fn nitro_for(network: &Network) -> Image {
    let built_in = Network::builtin(&network.name).is_some_and(|known| known == *network);
    nitro_with((!built_in).then(|| Ramdisk::new().program("chain", chain::measured(network))))
}

fn nitro_with(files: Option<Ramdisk>) -> Image {
    let kernel = std::fs::read(prepared("nitro/kernel", "nitro")).unwrap();
    let mut image = Image::of_vault(kernel, COMMAND_LINE, stripped(&guest(true))).unwrap();
    image.ramdisks.extend(files.map(|files| files.to_bytes().unwrap()));
    image
}
