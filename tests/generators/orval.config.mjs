export default {
  credits: {
    input: "../../chalicelib/api/openapi.json",
    output: {
      target: "build/orval/credits.ts",
      client: "fetch",
      baseUrl: { runtime: "process.env.CREDITS_API_URL" },
    },
  },
};
