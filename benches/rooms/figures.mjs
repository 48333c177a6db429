// Numbers from many, and how they are written.

/** The value that `share` (0 … 1) of the values do not exceed. Sorts them. */
export const quantiles = (values, ...shares) => {
  values.sort((a, b) => a - b)
  return shares.map((share) => values[Math.min(values.length - 1, Math.ceil(share * values.length) - 1)])
}

const digits = (value) => {
  if (value === 0 || Math.abs(value) >= 100) return value.toFixed(0)
  return value.toPrecision(3)
}

/** The median of the rounds with the lowest and the highest. */
export const figure = (rounds, unit) => {
  const sorted = rounds.toSorted((a, b) => a - b)
  const median = (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2
  const range = `${digits(sorted[0])} … ${digits(sorted.at(-1))}`
  const middle = `${digits(median)} ${unit}`.trim()
  return sorted[0] === sorted.at(-1) ? middle : `${middle} (${range})`
}

/** Ratios are taken within a round. */
export const ratio = (rounds, above, below) => figure(rounds.map((round) => above(round) / below(round)), '×')

/** A table of Markdown: the first row is its head. */
export const table = ([head, ...rows]) =>
  [head, head.map((_, n) => (n === 0 ? '---' : '---:')), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')

/** Nanoseconds of the machine's monotonic clock, the same for all its processes, as microseconds. */
export const nowUs = () => Number(process.hrtime.bigint() / 1000n)
