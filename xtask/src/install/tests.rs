// SPDX-License-Identifier: GPL-2.0

//! Installing into a small tree.

use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;
use walkdir::WalkDir;

use super::*;

const MAKEFILE: &str = "VERSION = 7\nPATCHLEVEL = 3\n\nlist := a \\\n\tz\n";
const PATCH: &str = "\
--- a/mm/x.c
+++ b/mm/x.c
@@ -1,3 +1,3 @@
 one
-two
+2
 three
--- /dev/null
+++ b/mm/new.c
@@ -0,0 +1 @@
+new
";

fn write(top: &Path, file: &str, text: &str) {
    let path = top.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn repository(with_series: bool) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "core/lib.rs", "lib\n");
    write(dir.path(), "core/deep/mod.rs", "mod\n");
    write(dir.path(), "helper.c", "helper\n");
    write(
        dir.path(),
        "linux/install.toml",
        "[[copy]]\nfrom = \"core\"\nto = \"rust/dpmem\"\n[[copy]]\nfrom = \"helper.c\"\nto = \"rust/helper.c\"\n\
         [[insert]]\nfile = \"Makefile\"\nbefore = \"\\tz\"\nlines = [\"\\tdpmem \\\\\"]\n\
         [[insert]]\nfile = \"mm/x.c\"\nat = \"end\"\nlines = [\"\", \"ours\"]\n",
    );
    if with_series {
        write(
            dir.path(),
            "linux/series/7.3/series",
            "# in order\n0001.patch\n",
        );
        write(dir.path(), "linux/series/7.3/0001.patch", PATCH);
    }
    dir
}

fn tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "Makefile", MAKEFILE);
    write(dir.path(), "Kconfig", "");
    write(dir.path(), "mm/x.c", "one\ntwo\nthree\n");
    write(dir.path(), "rust/kernel.rs", "kernel\n");
    dir
}

fn content(tree: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    WalkDir::new(tree)
        .into_iter()
        .map(Result::unwrap)
        .map(|entry| {
            let data = if entry.file_type().is_file() {
                fs::read(entry.path()).unwrap()
            } else {
                b"folder".to_vec()
            };
            (entry.path().to_path_buf(), data)
        })
        .collect()
}

fn times(tree: &Path) -> Vec<(PathBuf, i64, i64)> {
    let of = |path: &Path| {
        path.metadata()
            .map(|data| (data.mtime(), data.mtime_nsec()))
            .unwrap()
    };
    content(tree)
        .into_keys()
        .map(|path| (path.clone(), of(&path).0, of(&path).1))
        .collect()
}

fn installer(repository: &TempDir) -> Installer {
    Installer::load(repository.path(), version::Series::V7_3).unwrap()
}

#[test]
fn install_and_remove_leave_nothing() {
    for with_series in [false, true] {
        let (repository, tree) = (repository(with_series), tree());
        let before = content(tree.path());
        let installer = installer(&repository);
        installer.install(tree.path(), Series::Apply).unwrap();
        let read = |file: &str| fs::read_to_string(tree.path().join(file)).unwrap();
        assert_eq!(read("rust/dpmem/deep/mod.rs"), "mod\n");
        assert_eq!(
            read("Makefile"),
            "VERSION = 7\nPATCHLEVEL = 3\n\nlist := a \\\n\tdpmem \\\n\tz\n"
        );
        assert_eq!(
            read("mm/x.c"),
            if with_series {
                "one\n2\nthree\n\nours\n"
            } else {
                "one\ntwo\nthree\n\nours\n"
            }
        );
        assert_eq!(tree.path().join("mm/new.c").exists(), with_series);

        let (installed, stamps) = (content(tree.path()), times(tree.path()));
        installer.install(tree.path(), Series::Apply).unwrap();
        assert_eq!(content(tree.path()), installed, "installed twice");
        assert_eq!(
            times(tree.path()),
            stamps,
            "a file was written though it was right"
        );

        remove(tree.path()).unwrap();
        assert_eq!(content(tree.path()), before);
        remove(tree.path()).unwrap();
        assert_eq!(content(tree.path()), before);
    }
}

#[test]
fn a_tree_that_was_restored_is_installed_into_again_or_cleaned() {
    let repository = repository(true);
    let installer = installer(&repository);
    for (again, clean) in [(true, true), (true, false), (false, true), (false, false)] {
        let tree = tree();
        let before = content(tree.path());
        installer.install(tree.path(), Series::Apply).unwrap();
        let installed = content(tree.path());
        // As git reset --hard does it: what git does not know stays. What was committed goes.
        write(tree.path(), "Makefile", MAKEFILE);
        write(tree.path(), "mm/x.c", "one\ntwo\nthree\n");
        if clean {
            fs::remove_file(tree.path().join("mm/new.c")).unwrap();
        }
        if again {
            installer.install(tree.path(), Series::Apply).unwrap();
            assert_eq!(content(tree.path()), installed);
        }
        remove(tree.path()).unwrap();
        assert_eq!(content(tree.path()), before);
    }
}

#[test]
fn a_tree_that_was_restored_in_part_is_left_alone() {
    let repository = repository(true);
    let installer = installer(&repository);
    for (file, text) in [("mm/x.c", "one\nzwei\nthree\n"), ("mm/new.c", "changed\n")] {
        let tree = tree();
        installer.install(tree.path(), Series::Apply).unwrap();
        write(tree.path(), "Makefile", MAKEFILE);
        write(tree.path(), "mm/x.c", "one\ntwo\nthree\n");
        write(tree.path(), file, text);
        let before = content(tree.path());
        installer.install(tree.path(), Series::Apply).unwrap_err();
        remove(tree.path()).unwrap_err();
        assert_eq!(content(tree.path()), before);
    }
}

#[test]
fn without_its_list_a_tree_is_left_alone() {
    let repository = repository(true);
    let installer = installer(&repository);
    let tree = tree();
    installer.remove(tree.path()).unwrap();
    assert!(!is_installed(tree.path()));
    installer.install(tree.path(), Series::Apply).unwrap();
    assert!(is_installed(tree.path()));
    // As git clean does it.
    fs::remove_file(tree.path().join(".dpmem-installed")).unwrap();
    fs::remove_dir_all(tree.path().join("rust")).unwrap();
    let before = content(tree.path());
    let error = installer.remove(tree.path()).unwrap_err().to_string();
    assert!(error.contains("of dpmem's in Makefile"), "{error}");
    assert_eq!(content(tree.path()), before);
}

#[test]
fn a_removal_that_was_killed_is_finished() {
    let (repository, tree) = (repository(true), tree());
    let before = content(tree.path());
    let installer = installer(&repository);
    installer.install(tree.path(), Series::Apply).unwrap();
    let state = State::load(tree.path()).unwrap();
    let files = state.copied.iter().map(|path| (path.clone(), None));
    // All that is ours is gone, but for the folders.
    let changes = Changes {
        files: files.collect(),
        state: None,
        folders: state.folders.clone(),
    };
    remove(tree.path()).unwrap();
    for folder in &state.folders {
        fs::create_dir_all(tree.path().join(folder)).unwrap();
    }
    let text = serde_json::to_vec(&changes).unwrap();
    fs::write(tree.path().join(".dpmem-changes"), text).unwrap();

    remove(tree.path()).unwrap();
    assert_eq!(content(tree.path()), before);
}

#[test]
fn another_tree_with_the_same_files_is_left_alone() {
    let (repository, tree) = (repository(true), tree());
    let file = tree.path().join("mm/x.c");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let other = tempfile::tempdir().unwrap();
    let link = other.path().join("x.c");
    fs::hard_link(&file, &link).unwrap();

    installer(&repository)
        .install(tree.path(), Series::Apply)
        .unwrap();
    assert_ne!(
        fs::read(&file).unwrap(),
        b"one\ntwo\nthree\n",
        "nothing was installed"
    );
    assert_eq!(fs::read(&link).unwrap(), b"one\ntwo\nthree\n");
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o755);
}

#[test]
fn the_series_comes_and_goes() {
    let (repository, tree) = (repository(true), tree());
    let installer = installer(&repository);
    installer.install(tree.path(), Series::Leave).unwrap();
    let without = content(tree.path());
    installer.install(tree.path(), Series::Apply).unwrap();
    assert!(tree.path().join("mm/new.c").exists());
    installer.install(tree.path(), Series::Leave).unwrap();
    assert_eq!(content(tree.path()), without);
}

#[test]
fn what_is_gone_from_the_repository_goes_from_the_tree() {
    let (repository, tree) = (repository(false), tree());
    installer(&repository)
        .install(tree.path(), Series::Apply)
        .unwrap();
    fs::remove_file(repository.path().join("core/deep/mod.rs")).unwrap();
    installer(&repository)
        .install(tree.path(), Series::Apply)
        .unwrap();
    assert!(!tree.path().join("rust/dpmem/deep/mod.rs").exists());
}

#[test]
fn a_tree_that_does_not_fit_is_left_alone() {
    let repository = repository(true);
    let spoil: [(&str, &str, &str); 5] = [
        ("Makefile", "VERSION = 7\nPATCHLEVEL = 3\n", "has no line"),
        (
            "Makefile",
            "VERSION = 6\nPATCHLEVEL = 12\n\tz\n",
            "only 7.2 and 7.3",
        ),
        (
            "mm/x.c",
            "one\nzwei\nthree\n",
            "0001.patch cannot be applied",
        ),
        ("rust/helper.c", "somebody else's\n", "not from dpmem"),
        ("rust/dpmem/lib.rs", "lib\n", "not from dpmem"),
    ];
    for (file, text, reason) in spoil {
        let tree = tree();
        write(tree.path(), file, text);
        let before = content(tree.path());
        let error = installer(&repository)
            .install(tree.path(), Series::Apply)
            .unwrap_err();
        assert!(format!("{error:#}").contains(reason), "{error:#}");
        assert_eq!(content(tree.path()), before);
    }
}

#[test]
fn a_run_that_was_killed_is_finished() {
    let (repository, tree) = (repository(false), tree());
    let installer = installer(&repository);
    installer.install(tree.path(), Series::Apply).unwrap();
    let installed = content(tree.path());
    remove(tree.path()).unwrap();

    // The changes are written down, and one of the files is.
    let state = State {
        copied: installer.files.keys().cloned().collect(),
        ..State::default()
    };
    let files = installer
        .files
        .iter()
        .map(|(path, data)| (path.clone(), Some(data.clone())))
        .collect();
    let text = serde_json::to_vec(&Changes {
        files,
        state: Some(state),
        folders: BTreeSet::new(),
    })
    .unwrap();
    fs::write(tree.path().join(".dpmem-changes"), text).unwrap();
    write(tree.path(), "rust/.dpmem-new", "hel");

    installer.install(tree.path(), Series::Apply).unwrap();
    let mut found = content(tree.path());
    // The killed run did not say which folders it made.
    let mut installed = installed;
    found.remove(&tree.path().join(".dpmem-installed"));
    installed.remove(&tree.path().join(".dpmem-installed"));
    assert_eq!(found, installed);
}

#[test]
fn what_is_the_same_again_is_as_old() {
    let (repository, tree) = (repository(true), tree());
    let installer = Installer::load(repository.path(), version::Series::V7_3).unwrap();
    installer.install(tree.path(), Series::Apply).unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    let modified = |file: &str| {
        fs::metadata(tree.path().join(file))
            .unwrap()
            .modified()
            .unwrap()
    };
    let files = [
        "Makefile",
        "mm/x.c",
        "mm/new.c",
        "rust/dpmem/lib.rs",
        "rust/helper.c",
    ];
    for file in files {
        let file = fs::File::options()
            .write(true)
            .open(tree.path().join(file))
            .unwrap();
        file.set_modified(long_ago).unwrap();
    }
    write(repository.path(), "helper.c", "another\n");
    let installer = Installer::load(repository.path(), version::Series::V7_3).unwrap();

    let kept = Kept::of(tree.path()).unwrap();
    remove(tree.path()).unwrap();
    installer.install(tree.path(), Series::Apply).unwrap();
    assert_ne!(modified("mm/x.c"), long_ago);
    kept.restore().unwrap();
    for file in files {
        assert_eq!(
            modified(file) == long_ago,
            file != "rust/helper.c",
            "{file}"
        );
    }
}
