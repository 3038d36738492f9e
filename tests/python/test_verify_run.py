"""`triptych verify` on a run: what is no checkpoint yet is passed over, and nothing else."""

import shutil

import pytest

from triptych.commands.verify import VerifyConfig, verify

CHECKPOINTS = ("step-00000009", "step-00000010")


def verified(run):
    states = verify(VerifyConfig(folder=str(run)))
    return {folder.rsplit("/", 1)[1]: state for folder, state in states.items()}


@pytest.mark.parametrize(
    "gone", [("manifest.json",), ("manifest.json", "manifest.sha256")]
)
def test_a_checkpoint_without_its_manifest_is_named(run, gone):
    for name in gone:
        (run / "checkpoints" / CHECKPOINTS[1] / name).unlink()
    states = verified(run)
    assert states[CHECKPOINTS[0]] == "good"
    assert "manifest.json` is damaged: expected a manifest" in states[CHECKPOINTS[1]]


@pytest.mark.parametrize("place", ["checkpoints", "checkpoints/step-00000010"])
def test_checkpoints_behind_a_link_are_verified(run, tmp_path, place):
    (run / place).rename(tmp_path / "elsewhere")
    (run / place).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert verified(run) == dict.fromkeys(CHECKPOINTS, "good")
    with open(run / "checkpoints" / CHECKPOINTS[1] / "config.json", "a") as file:
        file.write(" ")
    assert "config.json` is damaged" in verified(run)[CHECKPOINTS[1]]


def test_a_link_into_its_own_folder_is_followed_once(run):
    (run / "again").symlink_to(run, target_is_directory=True)
    assert verified(run) == dict.fromkeys(CHECKPOINTS, "good")


def test_what_a_killed_run_had_begun_to_write_is_no_damage(run):
    draft = run / "checkpoints" / ".tmp-step-00000011"
    shutil.copytree(run / "checkpoints" / CHECKPOINTS[1], draft)
    manifest = draft / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:100])
    assert verified(run) == dict.fromkeys(CHECKPOINTS, "good")


def test_a_checkpoint_by_the_name_of_another_step_is_named(run):
    folder = run / "checkpoints"
    (folder / CHECKPOINTS[0]).rename(folder / "step-00000008")
    states = verified(run)
    assert states[CHECKPOINTS[1]] == "good"
    assert "found one of step 9" in states["step-00000008"]
