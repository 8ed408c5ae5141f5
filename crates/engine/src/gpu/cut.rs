//! How a pass's attention is cut into launches and cubes. Pure.

use crate::kernels::attention::{CHUNK, TASK};

/// Neighbouring rows of one sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub first_row: usize,
    pub rows: usize,
    /// The first row's position.
    pub position: usize,
    /// Where the sequence's blocks begin among all tables.
    pub table: usize,
}

/// One launch of `grouped_attention`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Launch {
    /// Rows of a cube.
    pub rows: usize,
    pub tasks: Vec<u32>,
    /// For `merge_chunks`; empty where each cube has all chunks of its rows.
    pub merges: Vec<u32>,
    /// Rows times positions.
    pub work: usize,
}

impl Launch {
    pub(crate) fn cubes(&self) -> usize {
        self.tasks.len() / TASK
    }
}

/// What a launch may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    /// Rows of a cube of a prompt.
    pub rows: usize,
    /// Chunks that are merged afterwards.
    pub chunks: usize,
    /// Rows times positions, unless one cube has more.
    pub work: usize,
}

/// For layers where so many positions are seen. A row of its own is cut by chunks if any such row
/// has several; rows of a prompt are cut among themselves, for there are enough of them.
pub(crate) fn cut(runs: &[Run], window: Option<u32>, most: Most) -> Vec<Launch> {
    let begin = |position: usize| {
        let unseen = |window: u32| (position + 1).saturating_sub(window as usize);
        window.map_or(0, unseen) / CHUNK * CHUNK
    };
    let chunks = |run: &Run| (run.position + 1 - begin(run.position)).div_ceil(CHUNK);
    let (single, several): (Vec<Run>, Vec<Run>) = runs.iter().partition(|run| run.rows == 1);
    let split = single.iter().any(|run| chunks(run) > 1);
    let mut launches = Launches {
        most,
        done: Vec::new(),
        open: Launch::default(),
    };
    for run in &single {
        let begin = begin(run.position);
        let end = run.position + 1;
        if split {
            launches.make_room(1, end - begin, chunks(run));
            let first = launches.open.cubes();
            for chunk in (begin..end).step_by(CHUNK) {
                launches.push(run, 0, 1, chunk, end.min(chunk + CHUNK));
            }
            let merge = [run.first_row, first, launches.open.cubes() - first];
            launches
                .open
                .merges
                .extend(merge.map(|number| number as u32));
        } else {
            launches.make_room(1, end - begin, 0);
            launches.push(run, 0, 1, begin, end);
        }
    }
    launches.close();
    for run in &several {
        for at in (0..run.rows).step_by(most.rows) {
            let rows = most.rows.min(run.rows - at);
            let (begin, end) = (begin(run.position + at), run.position + at + rows);
            launches.make_room(most.rows, rows * (end - begin), 0);
            launches.push(run, at, rows, begin, end);
        }
    }
    launches.close();
    launches.done
}

struct Launches {
    most: Most,
    done: Vec<Launch>,
    open: Launch,
}

impl Launches {
    /// For cubes of so many rows, with so much work and so many chunks to merge.
    fn make_room(&mut self, rows: usize, work: usize, chunks: usize) {
        let full = self.open.work + work > self.most.work
            || chunks > 0 && self.open.cubes() + chunks > self.most.chunks;
        if full {
            self.close();
        }
        self.open.rows = rows;
    }

    fn push(&mut self, run: &Run, at: usize, rows: usize, begin: usize, end: usize) {
        let first_row = run.first_row + at;
        let task = [first_row, rows, run.position + at, run.table, begin, end];
        self.open.tasks.extend(task.map(|number| number as u32));
        self.open.work += rows * (end - begin);
    }

    fn close(&mut self) {
        if !self.open.tasks.is_empty() {
            self.done.push(std::mem::take(&mut self.open));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: Most = Most {
        rows: 3,
        chunks: 4,
        work: 2000,
    };

    fn run(first_row: usize, rows: usize, position: usize, table: usize) -> Run {
        Run {
            first_row,
            rows,
            position,
            table,
        }
    }

    fn launch(rows: usize, tasks: &[[u32; TASK]], merges: &[u32], work: usize) -> Launch {
        Launch {
            rows,
            tasks: tasks.concat(),
            merges: merges.to_vec(),
            work,
        }
    }

    #[test]
    fn cuts_as_a_table() {
        let cases = [
            ("nothing", vec![], None, vec![]),
            (
                "short contexts need no merging",
                vec![run(0, 1, 9, 0), run(1, 1, 255, 1)],
                None,
                vec![launch(
                    1,
                    &[[0, 1, 9, 0, 0, 10], [1, 1, 255, 1, 0, 256]],
                    &[],
                    266,
                )],
            ),
            (
                "a long one is cut by chunks",
                vec![run(0, 1, 9, 0), run(1, 1, 256, 1)],
                None,
                vec![launch(
                    1,
                    &[
                        [0, 1, 9, 0, 0, 10],
                        [1, 1, 256, 1, 0, 256],
                        [1, 1, 256, 1, 256, 257],
                    ],
                    &[0, 0, 1, 1, 1, 2],
                    267,
                )],
            ),
            (
                "a window leaves out whole chunks only",
                vec![run(0, 1, 600, 0)],
                Some(200),
                vec![launch(
                    1,
                    &[[0, 1, 600, 0, 256, 512], [0, 1, 600, 0, 512, 601]],
                    &[0, 0, 2],
                    345,
                )],
            ),
            (
                "a prompt's rows share cubes",
                vec![run(2, 4, 300, 5)],
                None,
                vec![launch(
                    3,
                    &[[2, 3, 300, 5, 0, 303], [5, 1, 303, 5, 0, 304]],
                    &[],
                    1213,
                )],
            ),
            (
                "too many chunks for one launch",
                vec![run(0, 1, 700, 0), run(1, 1, 700, 9)],
                None,
                (0..2)
                    .map(|row| {
                        let table = 9 * row;
                        let tasks = [
                            [row, 1, 700, table, 0, 256],
                            [row, 1, 700, table, 256, 512],
                            [row, 1, 700, table, 512, 701],
                        ];
                        launch(1, &tasks, &[row, 0, 3], 701)
                    })
                    .collect(),
            ),
        ];
        for (what, runs, window, expected) in cases {
            assert_eq!(cut(&runs, window, MOST), expected, "{what}");
        }
    }

    proptest! {
        /// Whatever the cut, each row looks once at every position that it sees.
        #[test]
        fn every_row_sees_its_positions_once(
            shapes in prop::collection::vec((1_usize..9, 0_usize..1500), 0..6),
            window in prop::option::of(1_u32..900),
        ) {
            let mut runs = Vec::new();
            let mut first_row = 0;
            for (rows, position) in shapes {
                runs.push(run(first_row, rows, position, runs.len()));
                first_row += rows;
            }
            let launches = cut(&runs, window, MOST);
            for run in &runs {
                for at in 0..run.rows {
                    let position = run.position + at;
                    let first = window.map_or(0, |window| (position + 1).saturating_sub(window as usize));
                    let mut seen = vec![0; position + 1];
                    for launch in &launches {
                        prop_assert!(launch.merges.is_empty() || launch.cubes() <= 6);
                        for task in launch.tasks.chunks(TASK) {
                            let row = run.first_row + at;
                            let (from, rows) = (task[0] as usize, task[1] as usize);
                            prop_assert!(rows <= launch.rows);
                            if (from..from + rows).contains(&row) {
                                for place in task[4]..task[5].min(position as u32 + 1) {
                                    seen[place as usize] += 1;
                                }
                            }
                        }
                    }
                    prop_assert!(seen[first..].iter().all(|times| *times == 1), "{:?}", seen);
                }
            }
        }
    }
}
