// SPDX-License-Identifier: GPL-2.0

//! The picture: who had which page of the device when, and where each process's memory was.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    io,
    path::Path,
    time::Instant, //
};

use bindings::sim::{Change, Event, Mapped, PAGE_SIZE};

/// Memory of a process that is shown.
pub struct Area {
    pub name: &'static str,
    pub process: i32,
    pub addr: usize,
    /// How many pages it has.
    pub nr: usize,
}

/// A part of the time that has a name.
pub struct Phase {
    pub name: &'static str,
    pub start: Instant,
    pub end: Instant,
}

/// All that is shown.
pub struct Timeline {
    /// How many pages the device has.
    pub vram: usize,
    pub areas: Vec<Area>,
    pub phases: Vec<Phase>,
    pub changes: Vec<Change>,
    pub events: Vec<(Instant, Event)>,
    /// When large folios were split.
    pub splits: Vec<Instant>,
}

/// How wide the part with the pages is.
const WIDTH: usize = 1080;
const LEFT: usize = 130;
const RIGHT: usize = 24;
const TOP: usize = 150;
/// How many pages a row of a diagram stands for.
const PAGES_PER_ROW: usize = 16;
/// How many columns there are, of which each has this width.
const COLUMN: usize = 2;
const COLUMNS: usize = WIDTH / COLUMN;
/// How narrow a phase may be.
const LEAST: f64 = 64.0;

/// The colours of the processes, and of the one that is not among them.
pub const COLOURS: [&str; 5] = ["#3b6fb6", "#d9822b", "#3f9c6b", "#a3509e", "#c8414b"];
const RAM: &str = "#d5d9de";
const ZERO: &str = "#eceef1";
const NOTHING: &str = "#fafbfc";

/// What a row of a diagram is in a column.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Cell(&'static str);

/// A diagram: rows of columns.
struct Grid {
    rows: usize,
    cells: Vec<Cell>,
}

impl Grid {
    fn new(pages: usize) -> Self {
        let rows = pages.div_ceil(PAGES_PER_ROW);
        Self {
            rows,
            cells: vec![Cell(NOTHING); rows * COLUMNS],
        }
    }

    /// Sets a column to the most frequent colour of each row's pages.
    fn set<'a>(&mut self, column: usize, pages: impl Iterator<Item = &'a &'static str>) {
        let pages: Vec<&'static str> = pages.copied().collect();
        for (row, pages) in pages.chunks(PAGES_PER_ROW).enumerate() {
            let count = |colour: &str| pages.iter().filter(|page| **page == colour).count();
            let most = pages.iter().copied().max_by_key(|colour| count(colour));
            self.cells[row * COLUMNS + column] = Cell(most.unwrap_or(NOTHING));
        }
    }

    fn cell(&self, row: usize, column: usize) -> Cell {
        self.cells[row * COLUMNS + column]
    }

    /// Draws it at `top`, as few rectangles.
    fn draw(&self, svg: &mut String, top: usize) {
        let mut done = vec![false; self.cells.len()];
        for row in 0..self.rows {
            for column in 0..COLUMNS {
                let cell = self.cell(row, column);
                if done[row * COLUMNS + column] || cell.0 == NOTHING {
                    continue;
                }
                let free = |row: usize, column: usize| {
                    self.cell(row, column) == cell && !done[row * COLUMNS + column]
                };
                let width = (column..COLUMNS).take_while(|c| free(row, *c)).count();
                let same = |row: &usize| (column..column + width).all(|c| free(*row, c));
                let height = (row..self.rows).take_while(same).count();
                for row in row..row + height {
                    done[row * COLUMNS..][column..column + width].fill(true);
                }
                rectangle(
                    svg,
                    (LEFT + column * COLUMN, top + row),
                    (width * COLUMN, height),
                    cell.0,
                );
            }
        }
    }
}

fn rectangle(svg: &mut String, (x, y): (usize, usize), (w, h): (usize, usize), colour: &str) {
    let _ = writeln!(
        svg,
        r#"<rect x="{x}" y="{y}" width="{w}" height="{h}" fill="{colour}"/>"#
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), class: &str, words: &str) {
    let _ = writeln!(
        svg,
        r#"<text x="{x:.1}" y="{y:.1}" class="{class}">{words}</text>"#
    );
}

/// Where in the picture a moment is. Each phase has a part of the width that grows with the time
/// that it took, but more slowly, so that short ones can be seen.
struct Scale {
    /// The phases: when each began and ended, and where.
    parts: Vec<(Instant, Instant, f64, f64)>,
}

impl Scale {
    fn new(phases: &[Phase]) -> Self {
        let weight = |phase: &Phase| (phase.end - phase.start).as_secs_f64().sqrt();
        let sum: f64 = phases.iter().map(weight).sum();
        let free = WIDTH as f64 - LEAST * phases.len() as f64;
        let mut x = 0.0;
        let parts = phases.iter().map(|phase| {
            let from = x;
            x += LEAST + free * weight(phase) / sum.max(f64::MIN_POSITIVE);
            (phase.start, phase.end, from, x)
        });
        Self {
            parts: parts.collect(),
        }
    }

    fn x(&self, at: Instant) -> f64 {
        for (start, end, from, to) in &self.parts {
            if at <= *end {
                let all = (*end - *start).as_secs_f64().max(f64::MIN_POSITIVE);
                let part = at.saturating_duration_since(*start).as_secs_f64() / all;
                return from + (to - from) * part;
            }
        }
        WIDTH as f64
    }
}

/// Where pages are, at some moment.
struct Pages<'a> {
    areas: &'a [Area],
    /// Who has each page of the device: how often each process maps it.
    vram: Vec<HashMap<i32, usize>>,
    vram_colours: Vec<&'static str>,
    /// Where each page of each area is.
    mapped: Vec<Vec<&'static str>>,
    /// On which page of the device each page of each process is.
    offsets: HashMap<(i32, usize), usize>,
}

impl<'a> Pages<'a> {
    fn new(vram: usize, areas: &'a [Area]) -> Self {
        Self {
            areas,
            vram: vec![HashMap::new(); vram],
            vram_colours: vec![NOTHING; vram],
            mapped: areas.iter().map(|area| vec![NOTHING; area.nr]).collect(),
            offsets: HashMap::new(),
        }
    }

    /// The colour of a process.
    fn colour(&self, process: i32) -> &'static str {
        let known = self.areas.iter().position(|area| area.process == process);
        COLOURS[known.unwrap_or(COLOURS.len() - 1) % COLOURS.len()]
    }

    fn recolour(&mut self, offset: usize) {
        let owner = self.vram[offset].keys().min().copied();
        self.vram_colours[offset] = owner.map_or(NOTHING, |owner| self.colour(owner));
    }

    fn apply(&mut self, change: &Change) {
        // It is where it was, until it has arrived.
        if change.to == Mapped::Migrating {
            return;
        }
        for n in 0..change.nr {
            let addr = change.addr + n * PAGE_SIZE;
            let process = change.process;
            let offset = match change.to {
                Mapped::Device(first, _) => Some(first + n),
                _ => None,
            };
            let before = match offset {
                Some(offset) => self.offsets.insert((process, addr), offset),
                None => self.offsets.remove(&(process, addr)),
            };
            if let Some(before) = before {
                self.vram[before].remove(&process);
                self.recolour(before);
            }
            if let Some(offset) = offset {
                *self.vram[offset].entry(process).or_default() += 1;
                self.recolour(offset);
            }
            let colour = match change.to {
                Mapped::None | Mapped::Migrating | Mapped::Poisoned => NOTHING,
                Mapped::Zero => ZERO,
                Mapped::Device(..) | Mapped::Coherent(..) => self.colour(process),
                Mapped::Ram(_) | Mapped::Exclusive => RAM,
            };
            for (area, pages) in self.areas.iter().zip(&mut self.mapped) {
                let page = addr.wrapping_sub(area.addr) / PAGE_SIZE;
                if area.process == process && page < area.nr {
                    pages[page] = colour;
                }
            }
        }
    }
}

impl Timeline {
    /// Writes the picture.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, self.svg())
    }

    fn svg(&self) -> String {
        let scale = Scale::new(&self.phases);
        let mut device = Grid::new(self.vram);
        let mut grids: Vec<Grid> = self.areas.iter().map(|area| Grid::new(area.nr)).collect();
        let mut pages = Pages::new(self.vram, &self.areas);
        let mut changes = self.changes.iter().peekable();
        for column in 0..COLUMNS {
            let x = (column * COLUMN) as f64;
            while let Some(change) = changes.next_if(|change| scale.x(change.at) <= x) {
                pages.apply(change);
            }
            device.set(column, pages.vram_colours.iter());
            for (grid, pages) in grids.iter_mut().zip(&pages.mapped) {
                grid.set(column, pages.iter());
            }
        }

        let gap = 30;
        let rows = device.rows + grids.iter().map(|grid| grid.rows + gap).sum::<usize>();
        let marks = TOP + rows + gap;
        let height = marks + 110;
        let mut svg = String::new();
        let _ = writeln!(
            svg,
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{height}" viewBox="0 0 {0} {height}">"#,
            LEFT + WIDTH + RIGHT
        );
        svg.push_str(
            "<style>text{font-family:'DejaVu Sans',Verdana,sans-serif;fill:#2b3038}\
             .title{font-size:19px;font-weight:bold}.small{font-size:11px;fill:#5b6470}\
             .name{font-size:12px;text-anchor:end}.phase{font-size:11px}\
             .time{font-size:10px;fill:#7a838f}</style>\n",
        );
        rectangle(&mut svg, (0, 0), (LEFT + WIDTH + RIGHT, height), "#ffffff");
        text(&mut svg, (24.0, 34.0), "title", "Who had which page when");
        self.legend(&mut svg);

        let mut top = TOP;
        self.frame(&mut svg, top, device.rows, "device", self.vram);
        device.draw(&mut svg, top);
        top += device.rows + gap;
        for (area, grid) in self.areas.iter().zip(&grids) {
            self.frame(&mut svg, top, grid.rows, area.name, area.nr);
            grid.draw(&mut svg, top);
            top += grid.rows + gap;
        }
        self.phases(&mut svg, &scale, marks);
        self.events(&mut svg, &scale, marks);
        svg.push_str("</svg>\n");
        svg
    }

    /// What the colours mean.
    fn legend(&self, svg: &mut String) {
        let mut x = 24;
        let names = self.areas.iter().map(|area| area.name);
        let entries = names
            .zip(COLOURS)
            .map(|(name, colour)| (format!("{name}, on the device"), colour));
        let others = [
            ("a child, alone".to_owned(), COLOURS[COLOURS.len() - 1]),
            ("in system memory".to_owned(), RAM),
            ("nothing yet".to_owned(), NOTHING),
        ];
        for (name, colour) in entries.chain(others) {
            let _ = writeln!(
                svg,
                r##"<rect x="{x}" y="48" width="12" height="12" fill="{colour}" stroke="#b9c0c8" stroke-width="0.5"/>"##
            );
            text(svg, (x as f64 + 17.0, 58.0), "small", &name);
            x += 34 + name.len() * 7;
        }
    }

    /// The frame of a diagram, and its name.
    fn frame(&self, svg: &mut String, top: usize, rows: usize, name: &str, pages: usize) {
        let _ = writeln!(
            svg,
            r##"<rect x="{}" y="{}" width="{}" height="{}" fill="{NOTHING}" stroke="#b9c0c8"/>"##,
            LEFT as f64 - 0.5,
            top as f64 - 0.5,
            WIDTH + 1,
            rows + 1
        );
        let x = LEFT as f64 - 10.0;
        text(svg, (x, top as f64 + 12.0), "name", name);
        let size = format!("{} MiB", (pages * PAGE_SIZE) >> 20);
        let _ = writeln!(
            svg,
            r#"<text x="{x}" y="{}" class="small" text-anchor="end">{size}</text>"#,
            top + 27
        );
    }

    /// The names of the phases, and where each begins.
    fn phases(&self, svg: &mut String, scale: &Scale, bottom: usize) {
        for (i, (phase, (_, _, from, to))) in self.phases.iter().zip(&scale.parts).enumerate() {
            let x = LEFT as f64 + from;
            let y = TOP - 12;
            if i > 0 {
                let _ = writeln!(
                    svg,
                    r##"<line x1="{x:.1}" y1="{}" x2="{x:.1}" y2="{}" stroke="#2b3038" stroke-width="0.6" stroke-dasharray="2 3"/>"##,
                    TOP - 8,
                    bottom + 62
                );
            }
            // Words that fit into the width, in lines.
            let room = ((to - from) / 6.4) as usize;
            let mut lines: Vec<String> = Vec::new();
            for word in phase.name.split(' ') {
                match lines.last_mut() {
                    Some(line) if line.len() + 1 + word.len() <= room => {
                        line.push(' ');
                        line.push_str(word);
                    }
                    _ => lines.push(word.to_owned()),
                }
            }
            let time = (phase.end - phase.start).as_secs_f64() * 1e3;
            text(svg, (x + 3.0, y as f64), "time", &format!("{time:.0} ms"));
            for (n, line) in lines.iter().rev().enumerate() {
                let y = y as f64 - 13.0 * (n + 1) as f64;
                text(svg, (x + 3.0, y), "phase", line);
            }
        }
    }

    /// Marks for what the tracepoints have said.
    fn events(&self, svg: &mut String, scale: &Scale, top: usize) {
        let when = |is: fn(&Event) -> bool| -> Vec<Instant> {
            let events = self.events.iter().filter(|(_, event)| is(event));
            events.map(|(at, _)| *at).collect()
        };
        let faults = when(|event| matches!(event, Event::Fault { .. }));
        let evictions = when(|event| matches!(event, Event::Evict { moved, .. } if *moved > 0));
        let kinds = [
            ("CPU faults", "#2b3038", &faults),
            ("evictions", "#c8414b", &evictions),
            ("splits", "#7a4fb0", &self.splits),
        ];
        for (i, (name, colour, when)) in kinds.into_iter().enumerate() {
            let y = top + i * 22;
            text(svg, (LEFT as f64 - 10.0, y as f64 + 11.0), "name", name);
            let mut last = -1.0;
            let mut path = String::new();
            for at in when {
                let x = scale.x(*at);
                if x - last >= 1.0 {
                    let _ = write!(path, "M{:.1} {y}v14", LEFT as f64 + x);
                    last = x;
                }
            }
            let _ = writeln!(
                svg,
                r#"<path d="{path}" stroke="{colour}" stroke-width="1.2"/>"#
            );
        }
        text(
            svg,
            (LEFT as f64, top as f64 + 92.0),
            "small",
            "A row of pixels is 16 pages. The width of a part grows with the root of its time. \
             What several processes share has the colour of the first.",
        );
    }
}
