/// The page's few pictograms. Shape says the same as colour and word, for those who do not see the colour.

const PATHS = {
  up: <><circle cx="12" cy="12" r="10" /><path class="mark" d="M7 12.5l3.5 3.5L17 9" /></>,
  suspect: <><path d="M12 1.5L23.5 22H.5z" /><path class="mark" d="M12 9v6M12 18.4v.2" /></>,
  down: <><path d="M7.4 1h9.2L23 7.4v9.2L16.6 23H7.4L1 16.6V7.4z" /><path class="mark" d="M8 8l8 8M16 8l-8 8" /></>,
  waiting: <><circle cx="12" cy="12" r="10" /><path class="mark" d="M12 6.5V12l3.5 2.5" /></>,
};

export function Icon({ shape }: { shape: keyof typeof PATHS }) {
  return <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">{PATHS[shape]}</svg>;
}

/** Picket's mark: a picket line. */
export function Mark() {
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="7" />
      <path d="M7 25V12l3-4 3 4v13M19 25V12l3-4 3 4v13M4 17h24" />
    </svg>
  );
}
