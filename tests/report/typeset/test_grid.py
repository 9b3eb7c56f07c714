from onebasin.report.aggregate import sections
from onebasin.report.typeset.grid import grid_piece
from onebasin.report.typeset.numbers import numbers_piece
from onebasin.report.typeset.plan import Grid


def scored(run, accuracy):
    run.summary["accuracy"]["final"] = accuracy
    return run


def test_a_row_per_arm_and_a_column_per_combination(make_run):
    runs = [
        scored(make_run("dense: a", epochs=10, clients=2), 0.5),
        scored(make_run("dense: a", epochs=5, clients=10), 0.8),
        scored(make_run("dense: a", epochs=5, clients=10, seed=1), 0.9),
        scored(make_run("dense: b", epochs=5, clients=10), 0.7),
        scored(make_run("all together", uplink="none", epochs=5, clients=10), 0.95),
    ]
    plan = Grid.model_validate(
        {
            "draw": "grid",
            "from": ["x"],
            "columns": {"task.clients": "{} models", "training.epochs": "{}"},
            "headings": {"10": "ten"},
            "row": "dense: (.*)",
            "names": {"b": "B"},
        }
    )
    piece = grid_piece(runs, plan)
    assert piece["head"] == ["accuracy, %", "ten models, 5", "2 models, ten"]
    rows = [[cell["text"] for cell in row["cells"]] for row in piece["rows"]]
    assert rows == [["B", "70.0", ""], ["all together", "95.0", ""], ["a", "85.0 ± 7.1", "50.0"]]
    assert [row["reference"] for row in piece["rows"]] == [False, True, False]
    assert [[cell.get("strong", False) for cell in row["cells"]] for row in piece["rows"]] == [
        [False, False, False],
        [False, False, False],
        [False, True, True],
    ]


def test_numbers_have_ranges_over_seeds(make_run):
    runs = [make_run(seed=seed, up=up, ceiling=ceiling) for seed, up, ceiling in ((0, 1000, 0.87), (1, 2000, 0.85))]
    for run, reached in zip(runs, (12_000, None), strict=True):
        run.summary["bytes_to_target"] = {"0.80": 40_000 + 1000 * run.config["seed"], "0.86": reached, "0.90": None}
    piece = numbers_piece(sections(runs)[0], "FedAvg fp32")
    assert piece["texts"]["total"] == "49.4 MB"
    assert piece["texts"]["up"] == "20.0 to 40.0 kB"
    assert piece["texts"]["0.80"] == "40.0 to 41.0 kB"
    assert piece["texts"]["0.86"] == "12.0 kB in 1 of 2 seeds"
    assert piece["texts"]["0.90"] == "never"
    assert piece["texts"]["seeds"] == "2 seeds"
    assert piece["bytes"]["0.80"] == (40_000, 41_000)
    assert "0.86" not in piece["bytes"]
    assert numbers_piece(sections(runs)[0], "no such arm") is None
