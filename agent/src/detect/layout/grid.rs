//! The cells that a detector's maps have over a picture, stride by stride, in the order that exports give them.

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cell {
    /// Column.
    pub(super) x: f32,
    /// Row.
    pub(super) y: f32,
    /// Pixels of the picture from one cell to the next.
    pub(super) stride: f32,
}

/// Cells of all maps together. A map that does not end with the picture has one more row or column.
pub(super) fn count((width, height): (u32, u32), strides: &[u32]) -> i64 {
    strides.iter().map(|stride| i64::from(width.div_ceil(*stride)) * i64::from(height.div_ceil(*stride))).sum()
}

/// The maps of YOLO's heads: the usual ones, and those with one more for large or for small objects.
const YOLO: [&[u32]; 3] = [&[8, 16, 32], &[8, 16, 32, 64], &[4, 8, 16, 32]];

/// Whether so many cells are those of a YOLO over this picture, whose sides are whole numbers of every stride.
pub(super) fn is_yolo(size: (u32, u32), cells: i64) -> bool {
    let whole =
        |strides: &[u32]| strides.iter().all(|stride| size.0.is_multiple_of(*stride) && size.1.is_multiple_of(*stride));
    YOLO.iter().any(|strides| whole(strides) && count(size, strides) == cells)
}

/// Every cell: map by map, in each row by row.
pub(super) fn cells((width, height): (u32, u32), strides: &[u32]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for &stride in strides {
        for y in 0..height.div_ceil(stride) {
            for x in 0..width.div_ceil(stride) {
                cells.push(Cell { x: x as f32, y: y as f32, stride: stride as f32 });
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_counted_and_walked_alike() {
        for (size, strides, expect) in [
            ((640, 640), &[8, 16, 32][..], 8400),
            ((416, 416), &[8, 16, 32, 64], 3598),
            ((320, 320), &[8, 16, 32], 2100),
            ((1280, 1280), &[8, 16, 32, 64], 34_000),
            ((96, 64), &[8, 16, 32], 126),
        ] {
            assert_eq!(count(size, strides), expect);
            assert_eq!(cells(size, strides).len() as i64, expect);
        }
        for (size, cells, expect) in [
            ((640, 640), 8400, true),
            ((640, 640), 8500, true),
            ((640, 640), 34_000, true),
            ((640, 640), 8401, false),
            // As many cells as NanoDet-Plus has over it: half a cell of stride 64 is none of a YOLO's.
            ((416, 416), 3598, false),
            ((300, 300), count((300, 300), &[8, 16, 32]), false),
        ] {
            assert_eq!(is_yolo(size, cells), expect, "{size:?} {cells}");
        }
        let cells = cells((96, 64), &[8, 16, 32]);
        assert_eq!(cells[13], Cell { x: 1.0, y: 1.0, stride: 8.0 });
        assert_eq!(cells[125], Cell { x: 2.0, y: 1.0, stride: 32.0 });
    }
}
