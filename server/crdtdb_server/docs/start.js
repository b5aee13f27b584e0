// Shows this server's own description; nothing comes from anywhere else.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#interface",
  deepLinking: true,
  displayOperationId: false,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
});
