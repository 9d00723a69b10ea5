/** What tests/metrics.test.ts uses of the parser, which brings no types. */
declare module "parse-prometheus-text-format" {
  const parse: (text: string) => unknown[];
  export default parse;
}
