from profkit.analyze.stack_rows import parse_stacks
from profkit.analyze.stacks import (
    REQUEST_FRAMES,
    STAGE_FRAME,
    attribute,
    stack_costs,
    stage_samples,
)
from profkit.probe.marks import Steps
from profkit.schema.stage import STAGES, Stage

MARKS = "/x/profkit/probe/marks.py"
TORCH = "/v/lib/python3.11/site-packages/torch"
STDLIB = "/usr/lib/python3.11"
MAIN = 'process 10:"python train.py";thread (10): MainThread'
WORKER = 'process 10:"python train.py";process 20:"python train.py";thread (20): MainThread'
LOOP = "<module> (/src/app/train.py:9)"
REQUEST = f"{LOOP};Steps._iterate_outermost ({MARKS}:281)"
LOADER = f"{TORCH}/utils/data/_utils"
FETCH = f"_worker_loop ({LOADER}/worker.py:349);fetch ({LOADER}/fetch.py:5)"


def staged(stage: str, line: int = 20) -> str:
    call = f"StageClock.call ({MARKS}:137);{STAGE_FRAME}{stage} ({MARKS}:332)"
    return f"main (/src/app/train.py:{line});{call}"


def text(*rows: str) -> str:
    return "\n".join(rows) + "\n"


def test_rows_hold_processes_thread_frames_and_count() -> None:
    stacks = parse_stacks(f"{WORKER};f (/a/b.py:3);g (/a/c.py:4) 17\n")
    (row,) = stacks.rows
    assert row.processes == (10, 20)
    assert row.thread == "MainThread"
    assert [(f.function, f.file, f.line) for f in row.frames] == [
        ("f", "/a/b.py", 3),
        ("g", "/a/c.py", 4),
    ]
    assert (row.count, stacks.foreign) == (17, 0)


def test_commands_with_semicolons_quotes_and_line_breaks_are_read() -> None:
    command = (
        'process 10:"python -c import a; print("b");\nmain() 3\nx = 4";thread (10): MainThread'
    )
    stacks = parse_stacks(f"{command};<module> (<string>:2) 5\n{MAIN};f (/a/b.py:3) 6\n")
    assert [row.count for row in stacks.rows] == [5, 6]
    assert stacks.foreign == 0


def test_paths_with_spaces_and_parentheses_are_read() -> None:
    (row,) = parse_stacks(f"{MAIN};f (/My Files (old)/b.py:3);g (/a;b/c.py:4) 2").rows
    assert [frame.file for frame in row.frames] == ["/My Files (old)/b.py", "/a;b/c.py"]


def test_a_thread_without_python_frames_is_a_row() -> None:
    stacks = parse_stacks(f"{WORKER} 25")
    assert stacks.rows[0].frames == ()
    assert stacks.foreign == 0
    assert sum(attribute(stacks).left_out.values()) == 25


def test_foreign_lines_are_skipped_and_counted() -> None:
    stacks = parse_stacks(
        text("# a comment", f"{MAIN};f (/a/b.py:3) 6", "main;f 12", f"{MAIN};no place here 3")
    )
    assert [row.count for row in stacks.rows] == [6]
    assert stacks.foreign == 3
    assert "3 unreadable" in (stack_costs(stacks, Stage.OTHER, 1).note or "")


def test_a_file_cut_short_keeps_what_is_whole() -> None:
    stacks = parse_stacks(f"{MAIN};f (/a/b.py:3) 6\n{MAIN};f (/a/b")
    assert ([row.count for row in stacks.rows], stacks.foreign) == ([6], 1)


def test_request_frames_exist_in_the_clock() -> None:
    assert all(hasattr(Steps, name) for name in REQUEST_FRAMES)


def test_the_innermost_mark_tells_the_stage() -> None:
    nested = f"{staged('forward')};f (/src/app/net.py:3);{staged('transfer')};to (/src/app/x.py:1)"
    raw = text(
        f"{MAIN};{LOOP};{staged('forward')};f (/src/app/net.py:3) 5",
        f"{MAIN};{LOOP};{nested} 7",
        f"{MAIN};{REQUEST};__next__ ({TORCH}/utils/data/dataloader.py:5) 11",
        f"{MAIN};{LOOP};log (/src/app/log.py:3) 13",
    )
    counts = stage_samples(attribute(parse_stacks(raw)))
    assert counts == {
        **dict.fromkeys(STAGES, 0),
        Stage.FORWARD: 5,
        Stage.TRANSFER: 7,
        Stage.DATALOADER: 11,
        Stage.OTHER: 13,
    }


def test_a_qualified_stage_frame_is_recognised_and_a_made_up_one_is_not() -> None:
    qualified = f"_named_frame.<locals>.{STAGE_FRAME}optimizer ({MARKS}:332)"
    raw = text(
        f"{MAIN};{LOOP};{qualified};step (/src/app/o.py:3) 5",
        f"{MAIN};{LOOP};{STAGE_FRAME}party (/src/app/o.py:3) 2",
    )
    counts = stage_samples(attribute(parse_stacks(raw)))
    assert (counts[Stage.OPTIMIZER], counts[Stage.OTHER]) == (5, 2)


def test_other_threads_and_processes_do_not_count() -> None:
    helper = 'process 10:"python train.py";thread (11): Thread-1'
    tracker = 'process 10:"python train.py";process 30:"python -c x";thread (30): MainThread'
    raw = text(
        f"{MAIN};{LOOP};{staged('forward')};f (/src/app/net.py:3) 5",
        f"{helper};{LOOP};work (/src/app/a.py:1) 100",
        f"{tracker};main ({STDLIB}/multiprocessing/resource_tracker.py:1) 100",
    )
    found = attribute(parse_stacks(raw))
    assert sum(row.count for row in found.rows) == 5
    assert sum(found.left_out.values()) == 200


def test_a_loop_in_another_thread_is_the_one_looked_at() -> None:
    trainer = 'process 10:"python train.py";thread (11): trainer'
    raw = text(
        f"{MAIN};{LOOP};join ({STDLIB}/threading.py:1) 100",
        f"{trainer};{staged('forward')};f (/src/app/net.py:3) 5",
    )
    counts = stage_samples(attribute(parse_stacks(raw)))
    assert (counts[Stage.FORWARD], counts[Stage.OTHER]) == (5, 0)


def test_workers_count_for_loading_unless_they_wait_to_be_asked() -> None:
    idle = f"_worker_loop ({TORCH}/utils/data/_utils/worker.py:334)"
    raw = text(
        f"{WORKER};{LOOP};{REQUEST};{FETCH};Mine.__getitem__ (/src/app/data.py:3) 30",
        f"{WORKER};{idle};Queue.get ({STDLIB}/multiprocessing/queues.py:113) 40",
        f"{WORKER};{idle};get ({STDLIB}/multiprocessing/queues.py:113);wait (/y.py:1) 50",
        f"{WORKER};Popen._launch ({STDLIB}/multiprocessing/popen_fork.py:1) 60",
    )
    drilldown = stack_costs(raw, Stage.DATALOADER, 4)
    (cost,) = drilldown.costs
    assert (cost.name, cost.source, cost.count, cost.share) == (
        "Mine.__getitem__",
        "app/data.py:3",
        30,
        1.0,
    )
    assert cost.context == "worker"
    assert (cost.self_ns, cost.total_ns) == (None, None)


def waiting(count: int) -> str:
    get = f"_try_get_data ({TORCH}/utils/data/dataloader.py:1291)"
    queue = f"Queue.get ({STDLIB}/multiprocessing/queues.py:113)"
    poll = f"_ConnectionBase.poll ({STDLIB}/multiprocessing/connection.py:257)"
    return f"{MAIN};{REQUEST};{get};{queue};{poll} {count}"


def test_waiting_for_workers_is_told_apart_from_their_work() -> None:
    raw = text(waiting(90), f"{WORKER};{FETCH};decode (/src/app/data.py:3) 30")
    drilldown = stack_costs(raw, Stage.DATALOADER, 4)
    assert [(cost.name, cost.share) for cost in drilldown.costs] == [("decode", 1.0)]
    assert "90 further samples" in (drilldown.note or "")


def test_waiting_is_all_there_is_to_show_where_workers_were_not_seen() -> None:
    drilldown = stack_costs(text(waiting(90)), Stage.DATALOADER, 4)
    assert [cost.count for cost in drilldown.costs] == [90]
    assert "were not seen" in (drilldown.note or "")


def test_profkit_between_steps_and_the_end_of_workers_belong_to_no_stage() -> None:
    raw = text(
        f"{MAIN};{REQUEST};StageClock.flush ({MARKS}:210);write ({STDLIB}/x.py:1) 5",
        f"{MAIN};{REQUEST};_shutdown_workers ({TORCH}/utils/data/dataloader.py:1);join (/p.py:1) 6",
        f"{MAIN};{REQUEST};read (/src/app/a.py:1) 7",
    )
    found = attribute(parse_stacks(raw))
    assert stage_samples(found)[Stage.DATALOADER] == 7
    assert sum(found.left_out.values()) == 11


def test_rows_merge_library_internals_but_not_the_lines_that_call_them() -> None:
    call = f"Module._call_impl ({TORCH}/nn/modules/module.py:7)"
    linear = f"{TORCH}/nn/modules/linear.py"
    forward = staged("forward")
    raw = text(
        f"{MAIN};{forward};Net.forward (/src/app/net.py:3);{call};Linear.forward ({linear}:134) 6",
        f"{MAIN};{forward};Net.forward (/src/app/net.py:3);{call};Linear.forward ({linear}:130) 2",
        f"{MAIN};{forward};Net.forward (/src/app/net.py:3);{call} 1",
        f"{MAIN};{forward};Net.forward (/src/app/net.py:4);{call};Linear.forward ({linear}:134) 1",
    )
    costs = stack_costs(raw, Stage.FORWARD, 4).costs
    assert [(cost.name, cost.source, cost.count) for cost in costs] == [
        ("Linear.forward", "torch/nn/modules/linear.py:134", 8),
        ("Linear.forward", "torch/nn/modules/linear.py:134", 1),
        ("Net.forward", "app/net.py:3", 1),
    ]
    assert costs[0].context == "from Net.forward (app/net.py:3) < main (app/train.py:20)"
    assert sum(cost.share for cost in costs) == 1


def test_standard_library_internals_count_for_what_was_called() -> None:
    copy = f"{STDLIB}/copy.py"
    raw = text(
        f"{MAIN};{staged('other')};deepcopy ({copy}:128);_deepcopy_list ({copy}:205) 4",
        f"{MAIN};{staged('other')};deepcopy ({copy}:128);_d ({copy}:9);_keep_alive ({copy}:1) 3",
    )
    (cost,) = stack_costs(raw, Stage.OTHER, 4).costs
    assert (cost.name, cost.source, cost.count) == ("deepcopy", "copy.py:128", 7)


def test_a_compiled_function_called_as_a_stage_is_named_by_its_call_site() -> None:
    (cost,) = stack_costs(text(f"{MAIN};{staged('transfer', 33)} 4"), Stage.TRANSFER, 4).costs
    assert (cost.name, cost.source) == ("main", "app/train.py:33")


def test_top_limits_the_rows_and_leaves_shares_alone() -> None:
    rows = [f"{MAIN};{staged('forward')};f{i} (/src/app/n.py:{i}) {i}" for i in range(1, 5)]
    drilldown = stack_costs(text(*rows), Stage.FORWARD, 4, top=2)
    assert [(cost.name, cost.share) for cost in drilldown.costs] == [("f4", 0.4), ("f3", 0.3)]


def test_no_sample_is_a_gap() -> None:
    drilldown = stack_costs("", Stage.BACKWARD, 4)
    assert (drilldown.costs, drilldown.gap) == ((), "no sample fell into this stage")
